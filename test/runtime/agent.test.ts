import { agentSuite } from "./support/agent-suite";

// With whatever `sh` is here; test/engines has the same for each of the shells that images come with.
describe("sh", () => agentSuite(["sh"]));
