// Drives a headless Chromium by Playwright: a line of JSON on standard input is a command, a line on standard output its answer.
// node browser.js MODULES CHROMIUM
'use strict';

const {createRequire} = require('module');
const readline = require('readline');
const [modules, executablePath] = process.argv.slice(2);
const {chromium} = createRequire(`${modules}/`)('playwright-core');

const PATIENCE = 60000;
const seen = {console: [], foreign: []};
let origin = null;

async function main() {
  const browser = await chromium.launch({executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu']});
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning')
      seen.console.push(message.text());
  });
  page.on('pageerror', (error) => seen.console.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith('data:') && new URL(request.url()).origin !== origin)
      seen.foreign.push(request.url());
  });
  const commands = {
    async open({url}) {
      origin = new URL(url).origin;
      const answer = await page.goto(url);
      return {status: answer.status(), headers: answer.headers()};
    },
    // Until the text of what the selector names matches.
    async text({selector, matches}) {
      const is = ([selector, matches]) => {
        const found = document.querySelector(selector);
        return found && new RegExp(matches).test(found.textContent) ? found.textContent : false;
      };
      try {
        return await (await page.waitForFunction(is, [selector, matches])).jsonValue();
      } catch (error) {
        const now = await page.locator(selector).allTextContents();
        throw new Error(`${selector} is ${JSON.stringify(now)}, expected ${matches}`);
      }
    },
    async fill({selector, text}) {
      await page.fill(selector, text);
    },
    async click({selector}) {
      await page.click(selector);
    },
    async visible({selector}) {
      return page.locator(selector).isVisible();
    },
    async run({script}) {
      return page.evaluate(script);
    },
    // What went wrong since the last time.
    async troubles() {
      return {console: seen.console.splice(0), foreign: seen.foreign.splice(0)};
    },
  };
  for await (const line of readline.createInterface({input: process.stdin})) {
    const {name, ...rest} = JSON.parse(line);
    let answer;
    try {
      answer = {ok: (await commands[name](rest)) ?? null};
    } catch (error) {
      answer = {failed: String(error)};
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await browser.close();
}

main().then(() => process.exit(0), (error) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
});
