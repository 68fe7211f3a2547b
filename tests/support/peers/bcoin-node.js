// Starts one bcoin full node for the integration tests (see tests/support/bcoin.rs).
//
// What runs is the unchanged npm package bcoin 1.0.2, with six adaptations made from outside, because
// that release is from 2018:
//  1. Regtest starts with segwit and csv active, as Bitcoin Core's regtest does (bcoin would want 432 blocks
//     of BIP9 signalling first).
//  2. Compact block filters (BIP157/158) are served by filters.js: bcoin has them only since 2.0, which npm lacks.
//  3. A transaction inv waits at most BCOIN_INV_MS (default 200 ms, bcoin: 5 s), so that tests are quick.
//  4. Regtest addresses start with bcrt (bcoin: rb).
//  5. No look-up of the public address: nothing leaves the loopback interface.
//  6. Commands of twelve letters (getcfheaders) can be read: bcoin wants a zero byte after every command.
//
// usage: node bcoin-node.js '{"dir":…, "p2p":…, "rpc":…, "filters":bool, "bloom":bool, "version":70015,
//                              "inbound":125, "log":"debug"}'
// BCOIN_MODULES names the node_modules directory that holds bcoin.

'use strict';

const path = require('path');

const options = JSON.parse(process.argv[2]);
const modules = process.env.BCOIN_MODULES;
const lib = name => require(path.join(modules, 'bcoin', 'lib', name));

// Installed with --ignore-scripts, so without native modules: the one package with no fallback of its own is told so.
process.env.NODE_BACKEND = 'js';
require(path.join(modules, 'mrmr'));
delete process.env.NODE_BACKEND;

const FullNode = lib('node/fullnode');
const Chain = lib('blockchain/chain');
const Peer = lib('net/peer');
const net = lib('net/common');
const {thresholdStates} = lib('blockchain/common');
const Parser = lib('net/parser');
const Network = lib('protocol/network');
const {serveFilters} = require('./filters');

const getState = Chain.prototype.getState;
Chain.prototype.getState = function(prev, deployment) {
  if (deployment.name === 'segwit' || deployment.name === 'csv')
    return Promise.resolve(thresholdStates.ACTIVE);
  return getState.call(this, prev, deployment);
};

const parseHeader = Parser.prototype.parseHeader;
Parser.prototype.parseHeader = function(data) {
  const cmd = data.toString('latin1', 4, 16);
  if (!/^[a-z]{12}$/.test(cmd))
    return parseHeader.call(this, data);
  data[15] = 0;
  const header = parseHeader.call(this, data);
  if (header)
    header.cmd = cmd;
  return header;
};

Network.get('regtest').addressPrefix.bech32 = 'bcrt';
Peer.INV_INTERVAL = Number(process.env.BCOIN_INV_MS || 200);

if (options.filters)
  net.LOCAL_SERVICES |= 1 << 6;
if (options.version)
  net.PROTOCOL_VERSION = options.version;

const node = new FullNode({
  network: 'regtest',
  config: false,
  argv: false,
  env: false,
  prefix: options.dir,
  memory: false,
  workers: false,
  logConsole: true,
  logLevel: options.log || 'debug',
  listen: true,
  host: '127.0.0.1',
  port: options.p2p,
  publicPort: options.p2p,
  maxInbound: options.inbound || 125,
  bip37: options.bloom,
  httpHost: '127.0.0.1',
  httpPort: options.rpc,
  noAuth: true
});

node.pool.discoverExternal = async () => {};
// bcoin emits every misbehaving or vanished peer as an error; they are in the log already.
node.on('error', () => {});

process.on('unhandledRejection', (err) => {
  throw err;
});
// The test that started us holds our standard input: when it is gone, so are we.
process.stdin.on('end', () => process.exit(1)).resume();
process.on('SIGTERM', () => {
  node.close().then(() => process.exit(0), () => process.exit(1));
});

(async () => {
  await node.ensure();
  await node.open();
  if (options.filters)
    serveFilters(node, modules);
  await node.connect();
  node.startSync();
})().catch((err) => {
  console.error(err.stack);
  process.exit(1);
});
