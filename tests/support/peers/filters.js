// Compact block filters (BIP157 and BIP158, basic filter) for a bcoin 1.0.2 full node.
//
// Written from the BIPs, independent of breakwater's own code and of rust-bitcoin's; the Rust tests compare the
// result with both rust-bitcoin and Bitcoin Core. Filters are computed on demand from blocks and undo
// data and kept in memory: regtest chains are short.
// Requests beyond the limits of BIP157, or for a stop hash outside the best chain, close the connection as
// Bitcoin Core does.

'use strict';

const crypto = require('crypto');
const path = require('path');

const P = 19n;
const M = 784931n;
const MASK = (1n << 64n) - 1n;
const ZERO = Buffer.alloc(32);

const MAX_CFILTERS = 1000;
const MAX_CFHEADERS = 2000;
const CHECKPOINT_INTERVAL = 1000;

function serveFilters(node, modules) {
  const {UnknownPacket} = require(path.join(modules, 'bcoin/lib/net/packets'));
  const index = new FilterIndex(node.chain);

  const send = (peer, cmd, ...parts) => {
    if (!peer.destroyed)
      peer.send(new UnknownPacket(cmd, Buffer.concat(parts)));
  };

  node.pool.handleUnknown = async (peer, packet) => {
    try {
      switch (packet.cmd) {
        case 'getcfilters': {
          for (const f of await range(index, packet.data, MAX_CFILTERS))
            send(peer, 'cfilter', Buffer.from([0]), f.hash, varbytes(f.filter));
          break;
        }
        case 'getcfheaders': {
          const list = await range(index, packet.data, MAX_CFHEADERS);
          send(peer, 'cfheaders',
            Buffer.from([0]), list[list.length - 1].hash, list[0].prevHeader,
            varint(list.length), ...list.map(f => f.filterHash));
          break;
        }
        case 'getcfcheckpt': {
          const stop = packet.data.slice(1, 33);
          const list = [];
          const tip = await index.entry(stop);
          check(packet.data[0] === 0 && tip);
          for (let h = CHECKPOINT_INTERVAL; h <= tip.height; h += CHECKPOINT_INTERVAL)
            list.push((await index.get(await node.chain.getAncestor(tip, h))).header);
          send(peer, 'cfcheckpt', Buffer.from([0]), stop, varint(list.length), ...list);
          break;
        }
      }
    } catch (err) {
      node.logger.warning('Bad filter request: %s (%s).', err.message, peer.hostname());
      peer.destroy();
    }
  };
}

function check(ok) {
  if (!ok)
    throw new Error('outside the limits');
}

// The filters of a getcfilters or getcfheaders request: type, start height, stop hash.
async function range(index, data, limit) {
  check(data.length === 37 && data[0] === 0);
  const start = data.readUInt32LE(1);
  const stop = await index.entry(data.slice(5));
  check(stop && start <= stop.height && stop.height - start < limit);

  const list = [];
  for (let e = stop; e && e.height >= start; e = await index.chain.getPrevious(e))
    list.push(e);
  list.reverse();

  const filters = [];
  for (const e of list)
    filters.push(await index.get(e));
  return filters;
}

class FilterIndex {
  constructor(chain) {
    this.chain = chain;
    this.cache = new Map();
  }

  entry(hash) {
    return this.chain.getEntry(hash.toString('hex'));
  }

  // The filter of one chain entry; fills the cache from the last known ancestor on.
  async get(entry) {
    const missing = [];
    let e = entry;
    while (e && !this.cache.has(e.hash)) {
      missing.push(e);
      e = await this.chain.getPrevious(e);
    }

    let prevHeader = e ? this.cache.get(e.hash).header : ZERO;
    while (missing.length > 0) {
      e = missing.pop();
      const hash = Buffer.from(e.hash, 'hex');
      const filter = buildFilter(hash, await this.scripts(e));
      const filterHash = sha256d(filter);
      const header = sha256d(Buffer.concat([filterHash, prevHeader]));
      this.cache.set(e.hash, {hash, filter, filterHash, header, prevHeader});
      prevHeader = header;
    }
    return this.cache.get(entry.hash);
  }

  // Every output script but OP_RETURN, and the script of every output spent.
  async scripts(entry) {
    const block = await this.chain.getBlock(entry.hash);
    const view = await this.chain.getBlockView(block);
    const scripts = new Set();

    for (const tx of block.txs) {
      for (const output of tx.outputs) {
        const raw = output.script.toRaw();
        if (raw.length > 0 && raw[0] !== 0x6a)
          scripts.add(raw.toString('hex'));
      }
      if (tx.isCoinbase())
        continue;
      for (const input of tx.inputs) {
        // An output made and spent in the same block is in no undo data that survives: look in the block too.
        const spent = view.getOutputFor(input) || outputIn(block, input.prevout);
        const raw = spent.script.toRaw();
        if (raw.length > 0)
          scripts.add(raw.toString('hex'));
      }
    }
    return [...scripts].map(hex => Buffer.from(hex, 'hex'));
  }
}

function outputIn(block, prevout) {
  for (const tx of block.txs) {
    if (tx.hash('hex') === prevout.hash)
      return tx.outputs[prevout.index];
  }
  throw new Error('spent output not found');
}

// BIP158: a Golomb-coded set of N values in [0, N * M), key = first half of the block hash.
function buildFilter(blockHash, scripts) {
  const n = BigInt(scripts.length);
  if (n === 0n)
    return varint(0);

  const k0 = blockHash.readBigUInt64LE(0);
  const k1 = blockHash.readBigUInt64LE(8);
  const values = scripts.map(s => (siphash24(k0, k1, s) * (n * M)) >> 64n);
  values.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));

  const bits = new BitWriter();
  let last = 0n;
  for (const v of values) {
    const delta = v - last;
    last = v;
    for (let q = delta >> P; q > 0n; q--)
      bits.push(1);
    bits.push(0);
    for (let i = P - 1n; i >= 0n; i--)
      bits.push(Number((delta >> i) & 1n));
  }
  return Buffer.concat([varint(scripts.length), bits.finish()]);
}

class BitWriter {
  constructor() {
    this.bytes = [];
    this.used = 8;
  }

  push(bit) {
    if (this.used === 8) {
      this.bytes.push(0);
      this.used = 0;
    }
    this.bytes[this.bytes.length - 1] |= bit << (7 - this.used);
    this.used += 1;
  }

  finish() {
    return Buffer.from(this.bytes);
  }
}

function siphash24(k0, k1, data) {
  const rotl = (x, b) => ((x << b) | (x >> (64n - b))) & MASK;
  let v0 = k0 ^ 0x736f6d6570736575n;
  let v1 = k1 ^ 0x646f72616e646f6dn;
  let v2 = k0 ^ 0x6c7967656e657261n;
  let v3 = k1 ^ 0x7465646279746573n;

  const round = () => {
    v0 = (v0 + v1) & MASK;
    v1 = rotl(v1, 13n) ^ v0;
    v0 = rotl(v0, 32n);
    v2 = (v2 + v3) & MASK;
    v3 = rotl(v3, 16n) ^ v2;
    v0 = (v0 + v3) & MASK;
    v3 = rotl(v3, 21n) ^ v0;
    v2 = (v2 + v1) & MASK;
    v1 = rotl(v1, 17n) ^ v2;
    v2 = rotl(v2, 32n);
  };

  const padded = Buffer.alloc((data.length & ~7) + 8);
  data.copy(padded);
  padded[padded.length - 1] = data.length & 0xff;
  for (let off = 0; off < padded.length; off += 8) {
    const m = padded.readBigUInt64LE(off);
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }

  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++)
    round();
  return v0 ^ v1 ^ v2 ^ v3;
}

function sha256d(data) {
  const sha = d => crypto.createHash('sha256').update(d).digest();
  return sha(sha(data));
}

function varint(n) {
  if (n < 0xfd)
    return Buffer.from([n]);
  if (n <= 0xffff)
    return Buffer.from([0xfd, n & 0xff, n >> 8]);
  const out = Buffer.alloc(5);
  out[0] = 0xfe;
  out.writeUInt32LE(n, 1);
  return out;
}

function varbytes(data) {
  return Buffer.concat([varint(data.length), data]);
}

module.exports = {serveFilters};
