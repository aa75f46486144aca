import { start } from "./commands";
import { engineFor } from "./engines";
import { checkIntegrity } from "./engines/sqlite-integrity";

start({ engineFor, checkIntegrity });
