import { agentSuite } from "../runtime/support/agent-suite";

describe("dash", () => agentSuite(["dash"]));
describe("busybox ash", () => agentSuite(["busybox", "sh"]));
describe("bash", () => agentSuite(["bash"]));
