/** Schemas of a database that are not the server's own. */
const OWN_SCHEMAS = `SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'`;

/** What an extension made is made again by the extension, and so is in no dump. */
function notOfExtension(catalog: string, oid: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '${catalog}'::regclass AND e.objid = ${oid} AND e.deptype = 'e')`;
}

/** Relations whose rows a dump holds. A standby cannot read unlogged tables, and `pg_dump` leaves them out there. */
const TABLES = `pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND n.oid IN (${OWN_SCHEMAS}) AND ${notOfExtension("pg_class", "c.oid")}
  AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())`;

/** The server, the role that asks, the role that the server was made with, and every database that is no template. */
export const SERVER = `
SELECT jsonb_build_object(
  'version', split_part(current_setting('server_version'), ' ', 1),
  'major', current_setting('server_version_num')::int / 10000,
  'role', current_user,
  'superuser', (SELECT rolname FROM pg_roles WHERE oid = 10),
  'databases', (
    SELECT jsonb_agg(jsonb_build_object(
      'name', datname,
      'encoding', pg_encoding_to_char(encoding),
      'collation', datcollate,
      'open', datallowconn AND datconnlimit <> -2,
      'granted', has_database_privilege(oid, 'CONNECT')
    ) ORDER BY datname)
    FROM pg_database WHERE NOT datistemplate));
`;

/** What the role cannot read of a database: relations, tables whose rows it may not see, the number of large objects. */
export const ACCESS = `
SELECT jsonb_build_object(
  'unreadable', (
    SELECT coalesce(jsonb_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S') AND n.oid IN (${OWN_SCHEMAS}) AND ${notOfExtension("pg_class", "c.oid")}
    AND NOT (has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind
      WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END)),
  'hidden', (
    SELECT coalesce(jsonb_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')
    FROM ${TABLES} AND row_security_active(c.oid)),
  'largeObjects', (
    SELECT count(*) FROM pg_largeobject_metadata m
    WHERE current_setting('lo_compat_privileges')::bool IS NOT TRUE AND NOT pg_has_role(m.lomowner, 'USAGE')
    AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a
      WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))));
`;

/**
 * Text of an expression without what a restore may write otherwise: the server turns `ARRAY['a'::varchar]::text[]` into
 * `ARRAY['a'::varchar::text]` when it reads its own text back.
 */
function normal(expression: string): string {
  return String.raw`regexp_replace(regexp_replace(${expression}, '[()\s]', '', 'g'), '::(charactervarying|text)\d*(\[\])*', '', 'g')`;
}

/** Objects that have no details here but their names, by catalog. */
const NAMED = [
  ...["cast", "collation", "conversion", "foreign_data_wrapper", "foreign_server", "language", "opclass", "operator", "opfamily"],
  ...["publication", "statistic_ext", "ts_config", "ts_dict", "ts_parser", "ts_template"],
];

/**
 * One line of text for everything in the schemas, each independent of oids, owners, privileges, tablespaces and of what a dump
 * cannot keep (the place of a dropped column). Two servers of the same major version write equal lines for equal schemas.
 */
const SCHEMA_LINES = `
  SELECT concat_ws(' ', 'schema', quote_ident(nspname)) AS line FROM pg_namespace n
  WHERE oid IN (${OWN_SCHEMAS}) AND nspname <> 'public' AND ${notOfExtension("pg_namespace", "n.oid")}
UNION ALL
  SELECT concat_ws(' ', 'relation', r.name, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
    (SELECT string_agg(o, ',' ORDER BY o COLLATE "C") FROM unnest(c.reloptions) o),
    pg_get_partkeydef(c.oid), ${normal("pg_get_expr(c.relpartbound, c.oid)")},
    (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno) FROM pg_inherits i WHERE i.inhrelid = c.oid),
    CASE WHEN c.relkind IN ('v', 'm') THEN ${normal("pg_get_viewdef(c.oid)")} END)
  FROM relations r JOIN pg_class c USING (oid)
UNION ALL
  SELECT concat_ws(' ', 'column', r.name,
    -- A table that inherits gets the inherited columns first.
    CASE WHEN c.relispartition OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
      THEN row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) END,
    quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
    a.attcollation::regcollation, ${normal("pg_get_expr(d.adbin, d.adrelid)")})
  FROM relations r JOIN pg_class c USING (oid) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
UNION ALL
  SELECT concat_ws(' ', 'constraint', coalesce(r.name, o.contypid::regtype::text), quote_ident(o.conname),
    ${normal("pg_get_constraintdef(o.oid)")})
  FROM pg_constraint o LEFT JOIN relations r ON r.oid = o.conrelid
  WHERE o.connamespace IN (${OWN_SCHEMAS}) AND o.contype <> 't' AND o.conparentid = 0 AND (o.conrelid = 0 OR r.oid IS NOT NULL)
UNION ALL
  SELECT concat_ws(' ', 'index', ${normal("pg_get_indexdef(i.indexrelid)")}, i.indisclustered, i.indisreplident)
  FROM pg_index i JOIN relations r ON r.oid = i.indrelid WHERE i.indisvalid
UNION ALL
  SELECT concat_ws(' ', 'sequence', r.name, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
    s.seqcycle,
    (SELECT concat(d.refobjid::regclass, '.', quote_ident(a.attname)) FROM pg_depend d
      JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
      WHERE d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i')))
  FROM relations r JOIN pg_sequence s ON s.seqrelid = r.oid
UNION ALL
  SELECT concat_ws(' ', 'routine', p.oid::regprocedure, p.prosrc,
    CASE WHEN p.prokind = 'a' THEN format('%s %s %s', p.prorettype::regtype, a.aggtransfn, a.agginitval)
      ELSE ${normal("pg_get_functiondef(p.oid)")} END)
  FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
  WHERE p.pronamespace IN (${OWN_SCHEMAS}) AND ${notOfExtension("pg_proc", "p.oid")}
UNION ALL
  SELECT concat_ws(' ', 'trigger', ${normal("pg_get_triggerdef(t.oid)")}, t.tgenabled)
  FROM pg_trigger t JOIN relations r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
  SELECT concat_ws(' ', 'event trigger', quote_ident(t.evtname), t.evtevent, t.evtenabled, t.evtfoid::regprocedure, t.evttags)
  FROM pg_event_trigger t WHERE ${notOfExtension("pg_event_trigger", "t.oid")}
UNION ALL
  SELECT concat_ws(' ', 'rule', ${normal("pg_get_ruledef(u.oid)")}, u.ev_enabled)
  FROM pg_rewrite u JOIN relations r ON r.oid = u.ev_class WHERE u.rulename <> '_RETURN'
UNION ALL
  SELECT concat_ws(' ', 'policy', r.name, quote_ident(p.polname), p.polcmd, p.polpermissive,
    ${normal("pg_get_expr(p.polqual, p.polrelid)")}, ${normal("pg_get_expr(p.polwithcheck, p.polrelid)")})
  FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
UNION ALL
  SELECT concat_ws(' ', 'type', t.oid::regtype, t.typtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull, ${normal("t.typdefault")},
    (SELECT string_agg(quote_literal(l.enumlabel), ',' ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid),
    (SELECT format_type(g.rngsubtype, NULL) FROM pg_range g WHERE g.rngtypid = t.oid))
  FROM pg_type t WHERE t.typnamespace IN (${OWN_SCHEMAS}) AND t.typtype IN ('d', 'e', 'r') AND ${notOfExtension("pg_type", "t.oid")}
${NAMED.map(
  (catalog) => `UNION ALL
  SELECT concat_ws(' ', i.type, i.identity) FROM pg_${catalog} x, pg_identify_object('pg_${catalog}'::regclass, x.oid, 0) i
  WHERE x.oid >= 16384 AND ${notOfExtension(`pg_${catalog}`, "x.oid")}`,
).join("\n")}`;

/**
 * Roles that own something in the database, or have privileges or settings there. The role that the server was made with is never
 * among them. Not what belongs to extensions, as no dump has its owner, nor temporary tables.
 */
const ROLES = `
  SELECT coalesce(jsonb_agg(rolname ORDER BY rolname), '[]') FROM pg_roles WHERE oid IN (
    SELECT s.refobjid FROM pg_shdepend s, pg_database d
    WHERE d.datname = current_database() AND s.refclassid = 'pg_authid'::regclass
    AND (s.dbid = d.oid OR s.classid = 'pg_database'::regclass AND s.objid = d.oid) AND s.classid <> 'pg_extension'::regclass
    AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = s.classid AND e.objid = s.objid AND e.deptype = 'e')
    AND NOT EXISTS (SELECT FROM pg_class c WHERE s.classid = 'pg_class'::regclass AND c.oid = s.objid AND c.relpersistence = 't')
    UNION SELECT r.setrole FROM pg_db_role_setting r JOIN pg_database d ON d.oid = r.setdatabase WHERE d.datname = current_database())`;

/** Tables that one statement counts: each holds locks on the table and its indexes, and a server has room for a limited number. */
const BATCH = 100;

/**
 * A psql script for a transaction that its caller begins and ends: what the database holds, as lines of JSON. Lists of counted
 * tables come first, and one object last. The name of the transaction's snapshot is put into the environment as SNAPSHOT.
 *
 * The variable `exact` is the size of the largest table that is counted; for a larger one there is the server's estimate.
 *
 * No lock is kept: an application that waits for its end would stand in the way of `pg_dump`, which would then wait for ever.
 * So a table may be truncated or rewritten before `pg_dump` locks it, which no snapshot hides: {@link FILES} tells.
 */
export const FACTS = String.raw`
SET search_path = ''\; SET row_security = off\; SET statement_timeout = 0\; SET idle_in_transaction_session_timeout = 0\;
SET timezone = 'UTC'\; SET datestyle = 'ISO'\; SET intervalstyle = 'postgres'\; SET extra_float_digits = 3\; SET bytea_output = 'hex'\;
SET quote_all_identifiers = off;
SELECT pg_export_snapshot() AS snapshot \gset
\setenv SNAPSHOT :snapshot
SELECT 'SAVEPOINT counted',
  'SELECT jsonb_agg(jsonb_build_array(s, t, n, f)) FROM (VALUES '
  || string_agg(format('(%L, %L, (SELECT count(*) FROM ONLY %I.%I), %s)', nspname, relname, nspname, relname, relfilenode), ', ')
  || ') counts (s, t, n, f)',
  'ROLLBACK TO SAVEPOINT counted'
FROM (SELECT *, row_number() OVER () / ${BATCH} AS batch FROM ${TABLES} AND pg_relation_size(c.oid) <= :exact) tables GROUP BY batch \gexec
SAVEPOINT described;
WITH relations AS (
  SELECT c.oid, c.oid::regclass::text AS name FROM pg_class c
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S') AND c.relnamespace IN (${OWN_SCHEMAS}) AND ${notOfExtension("pg_class", "c.oid")}),
lines AS (${SCHEMA_LINES})
SELECT jsonb_build_object(
  'estimates', (
    SELECT coalesce(jsonb_agg(jsonb_build_array(n.nspname, c.relname, greatest(c.reltuples, 0)::bigint)), '[]')
    FROM ${TABLES} AND pg_relation_size(c.oid) > :exact),
  'sequences', (
    SELECT coalesce(jsonb_agg(jsonb_build_array(n.nspname, c.relname, pg_sequence_last_value(c.oid)::text,
      CASE WHEN s.seqcycle THEN 0 ELSE sign(s.seqincrement) END)), '[]')
    FROM relations r JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid),
  'largeObjects', (SELECT count(*) FROM pg_largeobject_metadata),
  'roles', (${ROLES}),
  'extensions', (SELECT coalesce(jsonb_object_agg(extname, extversion), '{}') FROM pg_extension),
  'schema', (SELECT encode(sha256(textsend(coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), ''))), 'hex') FROM lines));
ROLLBACK TO SAVEPOINT described;
`;

/** The files of all tables at this moment. A table has a new one once it is truncated or rewritten. */
export const FILES = "SELECT jsonb_agg(relfilenode::bigint) FROM pg_class WHERE relkind = 'r'";
