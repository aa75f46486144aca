import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { AgentError } from "../../../lib/runtime/agent";
import { PodAgent, type PodAgentOptions } from "../../../lib/runtime/pod-agent";
import { storeFile } from "../../../lib/runtime/store";
import { program, temporary } from ".";

const AGENT = resolve(__dirname, "../../../lib/scripts/agent.sh");
const VERBS = `# tools: cat sleep
verb_argument() { printf '%s' "$1"; }
verb_cat() { cat; }
verb_nothing() { :; }
verb_status() { echo "status $1" >&2; return "$1"; }
verb_leave() { exit "$1"; }
verb_first_fails() { false; echo "not reached"; }
verb_unset() { echo "$nothing_of_that_name"; }
verb_fail() { echo "connecting" >&2; echo "FATAL: no such database" >&2; echo "part of the output"; exit 3; }
verb_chatty() { i=0; while [ "$i" -lt 2000 ]; do echo "line $i of what it has to say about its work" >&2; i=$((i + 1)); done; exit 1; }
verb_endless() { while :; do echo yes; done; }
verb_leaves_a_writer() { (trap '' PIPE; while sleep 0.01; do echo noise; done) & }
verb_hang() { echo started; sleep 600; }
verb_terminated() { sleep 600 & kill -TERM $!; wait $!; }
verb_pause() { sleep 0.5; echo done; }
`;

/** What agent.sh and the runner's side of it promise, with one shell. */
export function agentSuite(shell: readonly string[]): void {
  const running: ChildProcess[] = [];
  const controls: AbortController[] = [];
  afterEach(() => {
    for (const control of controls.splice(0)) control.abort(new Error("the test is over"));
    for (const child of running.splice(0)) {
      try {
        process.kill(-(child.pid as number), "SIGKILL");
      } catch {
        // It has ended.
      }
    }
  });

  /** A directory with exactly these programs. */
  function tools(names: { readonly [name: string]: string }): string {
    const path = temporary();
    for (const [name, target] of Object.entries(names)) symlinkSync(find(target), join(path, name));
    return path;
  }

  function start(exchange: string, path = tools({ cat: "cat", sleep: "sleep" }), script = VERBS): ChildProcess {
    const file = join(temporary(), "engine script.sh");
    writeFileSync(file, script);
    const [command = "sh", ...args] = shell;
    const env = { PATH: path, EXCHANGE: exchange, ENGINE_SCRIPT: file };
    const child = spawn(find(command), [...args, AGENT], { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    running.push(child);
    return child;
  }

  function pair(options: Partial<PodAgentOptions> = {}, script = VERBS): {
    agent: PodAgent;
    child: ChildProcess;
    log: string[];
    deaths: Error[];
    control: AbortController;
    exchange: string;
  } {
    const exchange = join(temporary(), "exchange");
    mkdirSync(exchange);
    const log: string[] = [];
    const deaths: Error[] = [];
    const control = new AbortController();
    controls.push(control);
    const told = { log: (message: string) => log.push(message), onDeath: (error: Error) => deaths.push(error) };
    const agent = new PodAgent({ exchange, signal: control.signal, startSeconds: 10, ...told, ...options });
    return { agent, child: start(exchange, undefined, script), log, deaths, control, exchange };
  }

  const code = async (child: ChildProcess): Promise<number | null> =>
    child.exitCode ?? ((await once(child, "exit")) as [number | null])[0];

  test("a verb gets its argument as it is, and its output comes back", async () => {
    const { agent } = pair();
    const quotes = ["  two  spaces  ", `'single' "double"`, "back\\slash\\n \\\\", "$HOME `id` $(id)"];
    for (const argument of ["plain", ...quotes, "*", "-n", "é ü 漢", ";&|<>#", ""]) {
      expect(await text(agent.request("argument", argument).output)).toBe(argument);
    }
  });

  test("input goes in and output comes out, more than pipes hold, byte for byte", async () => {
    const { agent } = pair();
    const data = Buffer.alloc(3_000_000, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
    const chunks = Array.from({ length: 30 }, (_, index) => data.subarray(index * 100_000, (index + 1) * 100_000));
    const answer = agent.request("cat", "", Readable.from(chunks));
    expect((await buffer(answer.output)).equals(data)).toBe(true);
    await answer.done;
    expect(await agent.text("cat", "", Readable.from([Buffer.from("again ")]))).toBe("again");
    expect(await agent.text("cat")).toBe("");
  });

  test("every status from 1 to 255 is a failure with that status", async () => {
    const { agent } = pair();
    for (let status = 1; status <= 255; status++) {
      const error = (await agent.text(status % 2 === 0 ? "status" : "leave", String(status)).catch((e: unknown) => e)) as AgentError;
      if (!(error instanceof AgentError)) throw error;
      expect(error.status).toBe(status);
    }
    expect(await agent.text("leave", "0")).toBe("");
  }, 60_000);

  test("a failure ends the output with an error, and says the tool's last words", async () => {
    const { agent, log } = pair();
    const answer = agent.request("fail");
    await expect(text(answer.output)).rejects.toThrow("fail failed (exit status 3): FATAL: no such database");
    await expect(answer.done).rejects.toMatchObject({ verb: "fail", status: 3, stderr: "connecting\nFATAL: no such database" });
    expect(log).toEqual(["fail: connecting", "fail: FATAL: no such database"]);
  });

  test("of a tool that says much the end is kept", async () => {
    const { agent, log } = pair();
    await expect(agent.text("chatty")).rejects.toThrow("line 1999 of");
    expect(log.length).toBeGreaterThan(1000);
    expect(log.join("\n").length).toBeLessThan(100_000);
  });

  test.each([
    ["first_fails", 1],
    ["no_such_verb", 127],
    ["terminated", 143],
  ])("a verb that meets an error stops there: %s", async (verb, status) => {
    const { agent } = pair();
    const error = (await agent.text(verb).catch((e: unknown) => e)) as AgentError;
    expect(error.status).toBe(status);
    expect(await agent.text("argument", "still there")).toBe("still there");
  });

  test("fails when a verb uses a variable that is not set", async () => {
    await expect(pair().agent.text("unset")).rejects.toThrow(/nothing_of_that_name/);
  });

  test("a verb may leave its input unread, and the next one does not get it", async () => {
    const { agent } = pair();
    for (let round = 0; round < 20; round++) {
      const input = Readable.from(Array.from({ length: 100 }, () => Buffer.alloc(10_000, "x")));
      expect(await agent.text("nothing", "", input)).toBe("");
      expect(input.destroyed).toBe(true);
      expect((await agent.text("cat", "", Readable.from([Buffer.from("mine")]))).slice(0, 10)).toBe("mine");
    }
  });

  test("fails when the input does, though the verb took what came for all of it", async () => {
    const { agent } = pair();
    const input = Readable.from(
      (async function* () {
        yield Buffer.from("half");
        throw new Error("the artefact is damaged");
      })(),
    );
    await expect(agent.text("cat", "", input)).rejects.toThrow("the artefact is damaged");
    expect(await agent.text("argument", "next")).toBe("next");
  });

  test("a reader that has enough ends the verb", async () => {
    const { agent } = pair();
    for (let round = 0; round < 10; round++) {
      const answer = agent.request("endless");
      for await (const chunk of answer.output) {
        expect((chunk as Buffer).toString()).toMatch(/^yes/);
        break;
      }
      await expect(answer.done).rejects.toBeInstanceOf(AgentError);
      expect(await agent.text("argument", "next")).toBe("next");
    }
  });

  test("what a verb leaves running and writing is not taken for the output of the next", async () => {
    const { agent } = pair();
    const answer = agent.request("leaves_a_writer");
    for await (const chunk of answer.output) {
      expect((chunk as Buffer).toString()).toMatch(/^noise/);
      break;
    }
    await answer.done;
    for (let round = 0; round < 10; round++) expect(await agent.text("argument", "next")).toBe("next");
  });

  test("requests made at once are answered one after the other", async () => {
    const { agent } = pair();
    const answers = ["a", "b", "c", "d"].map((name) => agent.text("argument", name));
    expect(await Promise.all(answers)).toEqual(["a", "b", "c", "d"]);
  });

  test.each(["two\nlines", "nul\0", "x".repeat(4097)])("refuses the argument %#", async (argument) => {
    const { agent } = pair();
    expect(() => agent.request("argument", argument)).toThrow("argument: the argument must be one line of at most 4096 bytes");
    await expect(agent.text("argument", argument)).rejects.toThrow("must be one line");
  });

  test("the container ends with 0 when it is let go", async () => {
    const { agent, child, deaths } = pair();
    expect(await agent.text("argument", "x")).toBe("x");
    await agent.exit();
    expect(await code(child)).toBe(0);
    expect(deaths).toEqual([]);
  });

  test("the container may start before the runner", async () => {
    const exchange = temporary();
    const child = start(exchange);
    const control = new AbortController();
    controls.push(control);
    const agent = new PodAgent({ exchange, signal: control.signal, log: () => undefined, onDeath: () => undefined });
    expect(await agent.text("argument", "x")).toBe("x");
    await agent.exit();
    expect(await code(child)).toBe(0);
  });

  test("a container that is let go before it did anything ends with 0", async () => {
    const { agent, child } = pair();
    await agent.exit();
    expect(await code(child)).toBe(0);
  });

  test("a killed container is noticed at once, and ends the request", async () => {
    const { agent, child, deaths } = pair();
    const answer = agent.request("hang");
    await once(answer.output, "data");
    const killed = performance.now();
    process.kill(-(child.pid as number), "SIGKILL");
    await expect(answer.done).rejects.toThrow("hang failed (the engine's container died)");
    expect(performance.now() - killed).toBeLessThan(1000);
    await turn();
    expect(deaths.map(({ message }) => message)).toEqual(["the engine's container died"]);
    await expect(agent.text("argument", "x")).rejects.toThrow("died");
  });

  test("a killed container is noticed though something in it lives on and holds the output", async () => {
    const { agent, child } = pair();
    const answer = agent.request("hang");
    await once(answer.output, "data");
    child.kill("SIGKILL");
    await expect(answer.done).rejects.toThrow("the engine's container died");
  });

  test("fails when the engine's script is broken or missing", async () => {
    const { agent, child, deaths } = pair({}, "this is ) not a script");
    await expect(agent.text("argument", "x")).rejects.toThrow("the engine's container died");
    expect(await code(child)).not.toBe(0);
    await turn();
    expect(deaths).toHaveLength(1);
  });

  test("fails when the container does not start in time", async () => {
    const control = new AbortController();
    controls.push(control);
    const options = { exchange: temporary(), signal: control.signal, log: () => undefined, onDeath: () => undefined };
    await expect(new PodAgent({ ...options, startSeconds: 0.05 }).text("argument")).rejects.toThrow(
      "the engine's container did not start within 0.05 s",
    );
  });

  test("every wait ends with the signal: for the start, for a turn, for an answer", async () => {
    const { agent, control } = pair();
    const late = new PodAgent({ exchange: temporary(), signal: control.signal, log: () => undefined, onDeath: () => undefined });
    const [hanging, waiting, starting] = [agent.request("hang"), agent.request("argument", "x"), late.request("argument", "x")];
    await once(hanging.output, "data");
    control.abort(new Error("stop"));
    for (const { done, output } of [hanging, waiting, starting]) {
      await expect(done).rejects.toThrow("stop");
      expect(output.destroyed).toBe(true);
    }
  });

  test("TERM does not end the container before the runner has had its say", async () => {
    const { agent, child } = pair();
    const answer = agent.text("pause");
    await sleep(200);
    child.kill("SIGTERM");
    expect(await answer).toBe("done");
    await agent.exit();
    expect(await code(child)).toBe(0);
  });

  test("a runner that is killed ends the container, also under a verb that says nothing", async () => {
    const exchange = temporary();
    const runner = spawn(process.execPath, [program("agent-user.ts"), exchange, "hang"], { stdio: ["ignore", "pipe", "inherit"] });
    const child = start(exchange);
    const said = text(child.stderr as Readable);
    await once(runner.stdout, "data");
    runner.kill("SIGKILL");
    const killed = performance.now();
    expect(await code(child)).toBe(1);
    expect(performance.now() - killed).toBeLessThan(1000);
    expect(await said).toContain("the runner is gone");
  });

  test("a runner that ended before the container came ends it", async () => {
    const exchange = temporary();
    const runner = spawn(process.execPath, [program("agent-user.ts"), exchange], { stdio: "inherit" });
    await once(runner, "exit");
    const child = start(exchange);
    expect(await code(child)).toBe(1);
  });

  test("a container to which no runner comes gives up", async () => {
    // A sleep that takes no time: the ten minutes pass at once.
    const child = start(temporary(), tools({ sleep: "true" }));
    const said = text(child.stderr as Readable);
    expect(await code(child)).toBe(1);
    expect(await said).toContain("no runner appeared");
  });

  test("containers that hang take no thread from the rest of the runner", async () => {
    const pairs = Array.from({ length: 6 }, () => pair());
    const answers = pairs.map(({ agent }) => agent.request("hang"));
    await Promise.all(answers.map(({ output }) => once(output, "data")));
    const directory = temporary();
    const stored = storeFile(directory, "x", Readable.from([Buffer.alloc(100_000)]), { level: 1, signal: new AbortController().signal });
    expect((await stored).uncompressedBytes).toBe(100_000);
    for (const { control } of pairs) control.abort(new Error("enough"));
    await Promise.allSettled(answers.map(({ done }) => done));
  });

  test("the tools it declares are the ones it was tested with", () => {
    expect(/^# tools: (.*)$/m.exec(readFileSync(AGENT, "utf8"))?.[1]).toBe("sh sleep");
  });
}

function find(name: string): string {
  const found = (process.env.PATH ?? "").split(delimiter).map((path) => join(path, name)).find((path) => existsSync(path));
  if (found === undefined) throw new Error(`this test needs ${name} on PATH`);
  return found;
}
