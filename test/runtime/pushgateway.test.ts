import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { METRICS, renderMetrics } from "../../lib/runtime/metrics";
import { push } from "../../lib/runtime/pushgateway";
import { prepared } from "./support";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server that misbehaves as told; the well-behaved case is tested against the real Pushgateway. */
async function gateway(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<{ url: string; calls: number[] }> {
  const calls: number[] = [];
  const server = createServer((request, response) => {
    calls.push(performance.now());
    answer(request, response);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
}

const samples = [[METRICS.lastExitCode, 0]] as const;
const settings = (pushgateway?: string): Parameters<typeof push>[0] => prepared({ pushgateway }).settings;

test("the text is Prometheus' own format, without what is undefined", () => {
  expect(renderMetrics([[METRICS.lastExitCode, 1], [METRICS.lastSuccess, undefined], [METRICS.size, 1.5]])).toBe(
    "# HELP backup_last_exit_code Exit code of the last run, 0 where it succeeded\n" +
      "# TYPE backup_last_exit_code gauge\nbackup_last_exit_code 1\n" +
      "# HELP backup_size_bytes Size of the newest generation on the target\n# TYPE backup_size_bytes gauge\nbackup_size_bytes 1.5\n",
  );
});

test("no two metrics share a name, and none needs escaping", () => {
  const all = Object.values(METRICS);
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
  for (const { name, help } of all) {
    expect(name).toMatch(/^backup_[a-z_]+$/);
    expect(help).not.toMatch(/[\\\n]/);
  }
});

test("it is posted to the backup's own group, a slash at the end of the address notwithstanding", async () => {
  const seen: (string | undefined)[] = [];
  const { url } = await gateway((request, response) => {
    seen.push(request.method, request.url);
    response.end();
  });
  await push(settings(`${url}/`), samples);
  expect(seen).toEqual(["POST", "/metrics/job/backup/namespace/dbaas/backup/postgres"]);
});

test("nothing happens where there is no gateway", async () => {
  await expect(push(settings(), samples)).resolves.toBeUndefined();
});

test("fails when the metrics are refused, at once, with the gateway's own words", async () => {
  const words = "pushed metrics are invalid:\nunexpected end of input\n";
  const { url, calls } = await gateway((_, response) => response.writeHead(400).end(words));
  await expect(push(settings(url), samples)).rejects.toThrow(
    `HTTP 400: pushed metrics are invalid: | unexpected end of input (${url}/metrics/job/backup/namespace/dbaas/backup/postgres)`,
  );
  expect(calls).toHaveLength(1);
});

test("an error of the server is tried again, with pauses that grow", async () => {
  const { url, calls } = await gateway((_, response) => response.writeHead(calls.length < 3 ? 503 : 200).end("not yet"));
  await push(settings(url), samples, { pauseMs: 40 });
  expect(calls).toHaveLength(3);
  const [first = 0, second = 0, third = 0] = calls;
  expect(second - first).toBeGreaterThanOrEqual(39);
  expect(third - second).toBeGreaterThanOrEqual(79);
});

test("fails when it is an error of the server for good", async () => {
  const { url, calls } = await gateway((_, response) => response.writeHead(500).end("no disk"));
  await expect(push(settings(url), samples, { pauseMs: 1 })).rejects.toThrow("HTTP 500: no disk");
  expect(calls).toHaveLength(3);
});

test("fails when nobody listens, after the last attempt", async () => {
  const { url } = await gateway(() => undefined);
  servers.pop()?.close();
  await expect(push(settings(url), samples, { pauseMs: 1 })).rejects.toThrow("ECONNREFUSED");
});

test("fails when the gateway accepts and says nothing", async () => {
  const { url, calls } = await gateway(() => undefined);
  const started = performance.now();
  await expect(push(settings(url), samples, { timeoutMs: 50, attempts: 2, pauseMs: 1 })).rejects.toThrow("timeout");
  expect(performance.now() - started).toBeLessThan(1000);
  expect(calls).toHaveLength(2);
});

test("fails when the answer breaks off", async () => {
  const { url } = await gateway((_, response) => {
    response.writeHead(200, { "content-length": "100" }).write("half");
    setTimeout(() => response.destroy(), 10);
  });
  await expect(push(settings(url), samples, { pauseMs: 1 })).rejects.toThrow(/terminated|closed/);
});

test("fails when it is sent elsewhere: a redirect would turn the POST into a GET", async () => {
  const { url } = await gateway((_, response) => response.writeHead(302, { location: "/login" }).end());
  await expect(push(settings(url), samples, { pauseMs: 1 })).rejects.toThrow("redirect");
});
