/** The snapshot's file name: what `etcdutl snapshot restore` and `etcdctl snapshot restore` take as it is. */
export const SNAPSHOT = "snapshot.db";
/** The archive of the PKI. */
export const PKI_ARCHIVE = "pki.tar";

/** Where a drill's server listens: on no port that an etcd has elsewhere. */
export const SCRATCH_CLIENTS = "http://127.0.0.1:12379";
export const SCRATCH_PEERS = "http://127.0.0.1:12380";
/** Below the directory that a drill's containers share: the server's data and its configuration. */
export const SCRATCH_DATA = "data";
export const SCRATCH_CONFIGURATION = "etcd.json";
