/** Bytes as people read them: `1.2 GiB`. */
export function humanBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

/** Says every `everyMs` how far long work has come; silent about work that is shorter. */
export class Progress {
  private bytes = 0;
  private reported = 0;
  private what = "";
  private readonly timer: NodeJS.Timeout;

  public constructor(log: (message: string) => void, everyMs = 30_000) {
    this.timer = setInterval(() => {
      const rate = (this.bytes - this.reported) / (everyMs / 1000);
      this.reported = this.bytes;
      log(`${this.what}: ${humanBytes(this.bytes)} so far, ${humanBytes(Math.round(rate))}/s`);
    }, everyMs);
    this.timer.unref();
  }

  /** Names the step that is beginning and counts anew. */
  public step(what: string): void {
    this.what = what;
    this.bytes = this.reported = 0;
  }

  public readonly count = (bytes: number): void => {
    this.bytes += bytes;
  };

  public stop(): void {
    clearInterval(this.timer);
  }
}
