import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../helpers/process";

/** Certificates of one throw-away cluster, made with openssl, in one directory. */
export class Pki {
  private constructor(public readonly directory: string) {}

  /** Makes the authority and the key pair that signs service account tokens. */
  public static async create(directory: string): Promise<Pki> {
    const pki = new Pki(directory);
    await pki.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test-ca");
    await pki.openssl("genrsa", "-out", "sa.key", "2048");
    await pki.openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub");
    return pki;
  }

  private issued = 0;

  /**
   * A certificate for server and client use: `<name>.crt` and `<name>.key`.
   * @param subject e.g. `/O=system:nodes/CN=system:node:k8s-master`
   * @param names subject alternative names, e.g. `IP:127.0.0.1`
   */
  public async issue(name: string, subject: string, names: readonly string[] = [`DNS:${name}`]): Promise<void> {
    writeFileSync(this.path(`${name}.ext`), `subjectAltName=${names.join(",")}\nextendedKeyUsage=serverAuth,clientAuth\n`);
    await this.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", subject);
    await this.openssl(
      ...["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", String(++this.issued), "-days", "2"],
      ...["-extfile", `${name}.ext`, "-out", `${name}.crt`],
    );
  }

  public path(file: string): string {
    return join(this.directory, file);
  }

  private async openssl(...args: readonly string[]): Promise<void> {
    await run("openssl", args, { cwd: this.directory });
  }
}
