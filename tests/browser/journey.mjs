// Goes through the UI as a user would, in headless Chromium, against a running server with an agent on this host.
//
//   node journey.mjs [URL]        URL or DAYBOOK_URL; CHROMIUM for another browser than /usr/bin/chromium
//
// Prints a line for each step and "N passed, M failed" at the end; exits with 1 when a step failed.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const base = (process.argv[2] ?? process.env.DAYBOOK_URL ?? "http://127.0.0.1:4319").replace(/\/$/, "");
const executablePath =
  process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
// The promise: a minute after the first start the page shows this host.
const FIRST_DATA_MS = 60_000;
const STEP_MS = 15_000;

let passed = 0;
let failed = 0;

function assert(condition, message) {
  if (!condition) throw new Error(message);
}

async function step(page, name, run) {
  try {
    await run();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n        ${error.message.split("\n").slice(0, 6).join("\n        ")}`);
    console.log(`        at ${page.url()}`);
  }
}

// Waits until `check`, run in the page, gives something true.
async function until(page, message, check, argument, timeout = STEP_MS) {
  try {
    await page.waitForFunction(check, argument, { timeout, polling: 200 });
  } catch (error) {
    throw new Error(`${message} (waited ${timeout / 1000} s): ${error.message.split("\n")[0]}`);
  }
}

// Whether the canvases that `selector` finds are all there and have something other than grey axes on them.
const isDrawn = ({ selector, least }) => {
  const canvases = [...document.querySelectorAll(selector)];
  const colourful = canvases.filter((canvas) => {
    if (!canvas.width || !canvas.height) return false;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let pixels = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b, a] = [data[i], data[i + 1], data[i + 2], data[i + 3]];
      if (a > 20 && Math.max(r, g, b) - Math.min(r, g, b) > 40) pixels += 1;
    }
    return pixels > 50;
  });
  return colourful.length >= least;
};

const param = (page, name) => new URL(page.url()).searchParams.get(name);

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(STEP_MS);
const faults = [];
page.on("pageerror", (error) => faults.push(error.message));
page.on("console", (message) => {
  // An answer with an error status is logged by the browser; a step provokes one on purpose.
  if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(message.text());
});

await step(page, "Home opens", async () => {
  await page.goto(`${base}/`);
  await page.waitForSelector("header nav a[aria-current=page]");
  assert((await page.title()).includes("Daybook"), "the title names the product");
});

await step(page, "Home shows this host's CPU, memory, disk and network within a minute", async () => {
  await until(page, "four charts with something in them", isDrawn, { selector: ".host .chart-base", least: 4 }, FIRST_DATA_MS);
  const titles = await page.locator(".host figcaption h3").allTextContents();
  for (const title of ["CPU", "Memory", "Disk I/O", "Network"]) assert(titles.includes(title), `no chart of ${title}`);
});

await step(page, "Home lists log lines and accounts for records", async () => {
  await until(page, "log lines", () => document.querySelectorAll(".lines .log-row").length > 0, null, FIRST_DATA_MS);
  await page.waitForSelector(".ledger .account");
  const received = await page.locator(".ledger dd").first().textContent();
  assert(received.trim() !== "0", "nothing was received");
});

await step(page, "a chart tells the values under the pointer", async () => {
  const chart = page.locator(".host .chart").first();
  const tip = chart.locator(".chart-tip li").first();
  // A server that has just started has samples only near the right edge; where, depends on how long it runs.
  for (let step = 0; step < 100 && !(await tip.isVisible()); step += 1) {
    const box = await chart.boundingBox();
    await page.mouse.move(box.x + box.width - 4 - 4 * (step % 20), box.y + box.height / 2);
    await page.waitForTimeout(100);
  }
  assert(await tip.isVisible(), "no values under the pointer, anywhere near the right edge");
  await page.mouse.move(5, 5);
});

let word = "";
await step(page, "searching Home's lines keeps those with the word, marked", async () => {
  const lines = await page.locator(".lines .log-row .line").allTextContents();
  word = lines.flatMap((line) => line.match(/[A-Za-z]{4,}/g) ?? []).at(0) ?? "";
  assert(word, `no word in ${lines.length} lines`);
  await page.keyboard.press("/");
  await page.keyboard.type(word);
  await page.keyboard.press("Enter");
  await until(page, `only lines with ${word}, marked`, (word) => {
    const rows = [...document.querySelectorAll(".lines .log-row")];
    const has = (row) => row.querySelector("mark")?.textContent.toLowerCase() === word.toLowerCase();
    return rows.length > 0 && rows.every(has);
  }, word);
  assert(param(page, "search") === word, "the word is in the address");
});

await step(page, "a search for nonsense says that nothing matches", async () => {
  await page.locator(".lines input[type=search]").fill("no-such-line-anywhere-7c1e");
  await page.keyboard.press("Enter");
  await page.locator(".lines .empty").waitFor();
});

await step(page, "Logs lists records and their volume", async () => {
  await page.locator("nav >> text=Logs").click();
  await page.waitForURL(/\/explore\/logs/);
  await page.locator(".log-list .log-row").first().waitFor();
  await until(page, "bars", isDrawn, { selector: ".volume-panel .chart-base", least: 1 });
});

await step(page, "a text filter holds for every row and is in the address", async () => {
  const field = page.locator(".text-filter");
  await field.fill(word);
  await field.press("Enter");
  await until(page, `rows with ${word}`, (word) => {
    const rows = [...document.querySelectorAll(".log-list .log-row .line")];
    return rows.length > 0 && rows.every((row) => row.textContent.toLowerCase().includes(word.toLowerCase()));
  }, word);
  assert(param(page, "text") === word, "the text is in the address");
});

await step(page, "a click opens a record with its fields", async () => {
  await page.locator(".log-list .log-row").first().click();
  await page.locator(".detail .fields dt").first().waitFor();
  assert(param(page, "sel"), "the record is in the address");
  const names = await page.locator(".detail .fields dt").allTextContents();
  assert(names.includes("service_name"), `no service_name among ${names.join(", ")}`);
});

await step(page, "the lines around a record are shown on demand", async () => {
  await page.locator(".detail").getByRole("button", { name: "Show lines around" }).click();
  await page.locator(".detail .around li.own").waitFor();
  const own = await page.locator(".detail .around li.own").textContent();
  assert(own.toLowerCase().includes(word.toLowerCase()), `the record is among its neighbours: ${own}`);
  assert((await page.locator(".detail .around li").count()) > 0, "there are lines");
});

await step(page, "a field becomes a filter, and back undoes it", async () => {
  const field = page.locator(".detail .fields > div", { has: page.locator("dt", { hasText: /^service_name$/ }) });
  const value = await field.locator("dd").textContent();
  await field.getByRole("button", { name: "Filter for service_name" }).click();
  await page.locator(".chip b", { hasText: value }).waitFor();
  assert(param(page, "stream") === `service_name=${value}`, `the filter is in the address: ${page.url()}`);
  await page.goBack();
  await page.locator(".chip").first().waitFor({ state: "detached" });
});

await step(page, "a LogQL query can be typed", async () => {
  await page.locator(".segment", { hasText: "LogQL" }).click();
  const field = page.locator(".code-input");
  await field.fill('{service_name=~".+"} |= `' + word + "`");
  await field.press("Enter");
  await page.locator(".log-list .log-row mark").first().waitFor();
  await field.fill('{service_name=~".+"} |= "never closed');
  await field.press("Enter");
  await page.locator(".list-body .failed").waitFor();
});

await step(page, "the live tail connects and can be paused", async () => {
  await page.goto(`${base}/explore/logs`);
  await page.locator(".live-button").click();
  await page.locator(".tail-status", { hasText: "following" }).waitFor();
  await page.locator(".tail-status .button").click();
  await page.locator(".tail-status", { hasText: "paused" }).waitFor();
  await page.locator(".live-button").click();
  await page.locator(".tail-status").waitFor({ state: "detached" });
});

await step(page, "Metrics completes and runs a query by keyboard", async () => {
  await page.keyboard.press("g");
  await page.keyboard.press("m");
  await page.waitForURL(/\/explore\/metrics/);
  // Completion needs the names of metrics.
  await page.waitForLoadState("networkidle");
  await page.keyboard.press("/");
  await page.keyboard.type("system_memory_us");
  await page.locator(".offers li[aria-selected=true]", { hasText: "system_memory_usage_bytes" }).waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Enter");
  await until(page, "lines on the chart", isDrawn, { selector: ".result-panel .chart-base", least: 1 });
  assert(param(page, "q") === "system_memory_usage_bytes", `the query is in the address: ${page.url()}`);
  assert((await page.locator(".legend tbody tr").count()) > 0, "the legend has rows");
});

await step(page, "a reload shows the same", async () => {
  await page.reload();
  await until(page, "lines on the chart", isDrawn, { selector: ".result-panel .chart-base", least: 1 });
  assert((await page.locator(".editor textarea").inputValue()) === "system_memory_usage_bytes", "the query is in the editor");
});

await step(page, "dragging over the chart zooms, and back undoes it", async () => {
  const box = await page.locator(".result-panel .chart").boundingBox();
  const y = box.y + box.height / 2;
  await page.mouse.move(box.x + box.width * 0.7, y);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.85, y, { steps: 4 });
  await page.mouse.move(box.x + box.width * 0.95, y, { steps: 4 });
  await page.mouse.up();
  await page.waitForURL(/from=\d{13}/);
  assert(Number(param(page, "to")) > Number(param(page, "from")), "the range is in order");
  await page.goBack();
  assert(param(page, "from") === null, "back restores the range");
  assert(param(page, "q") === "system_memory_usage_bytes", "and keeps the query");
});

await step(page, "the table shows values", async () => {
  await page.locator(".segment", { hasText: "Table" }).click();
  await page.locator(".value-table tbody tr").first().waitFor();
  await page.locator(".segment", { hasText: "Chart" }).first().click();
});

await step(page, "a bad query is told with its place", async () => {
  await page.locator(".editor textarea").fill("sum(system_memory_usage_bytes");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Enter");
  await page.locator(".failed").waitFor();
  await page.locator(".tok-wrong").first().waitFor({ state: "attached" });
});

await step(page, "back returns to the good query", async () => {
  await page.goBack();
  await until(page, "the query in the editor", () => document.querySelector(".editor textarea")?.value === "system_memory_usage_bytes");
  await until(page, "lines on the chart", isDrawn, { selector: ".result-panel .chart-base", least: 1 });
});

await step(page, "a quick range is chosen by the picker", async () => {
  await page.getByRole("button", { name: "Time range" }).click();
  await page.locator(".menu-item", { hasText: "Last hour" }).click();
  await page.waitForURL(/from=now-1h/);
  await page.locator(".time-title", { hasText: "Last hour" }).waitFor();
});

await step(page, "the theme toggles and stays", async () => {
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme ?? "");
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.locator(".theme-button").click();
  const [first, firstGround] = [await theme(), await ground()];
  assert(param(page, "theme") === first && first, "the theme is in the address");
  await page.locator(".theme-button").click();
  const second = await theme();
  assert(second && second !== first && (await ground()) !== firstGround, `the theme changes: ${first}, ${second}`);
  await page.goto(`${base}/`);
  await page.waitForSelector(".header");
  assert((await theme()) === second, "the theme holds on the next visit");
});

await step(page, "shortcuts are listed, and the page fits a phone", async () => {
  await page.keyboard.press("?");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.setViewportSize({ width: 390, height: 844 });
  for (const path of ["/", "/explore/metrics", "/explore/logs"]) {
    await page.goto(base + path);
    await page.waitForSelector(".header");
    await page.waitForLoadState("networkidle");
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert(overflow <= 0, `${path} is ${overflow} pixels too wide`);
  }
});

await step(page, "nothing broke on the way", async () => {
  assert(faults.length === 0, faults.join("\n"));
});

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
