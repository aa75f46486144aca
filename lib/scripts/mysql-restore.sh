# Verbs of a restore of MySQL and MariaDB: those of the backup, as what is replaced is backed up first, and two more.
# tools: sh mariadb mariadb-dump mysql mysqldump
# shellcheck shell=sh
#
# The environment is that of mysql.sh, with an account that may write.

# shellcheck source=lib/scripts/mysql.sh
. "${ENGINE_SCRIPT%/*}/mysql.sh"

# Statements on standard input, in the database "$1" where there is one; ends at the first error. In binary mode the client
# changes no line ends and obeys DELIMITER alone of its own commands; comments are part of stored programs.
verb_load() {
  connected "$client" --binary-mode --comments ${1:+--database="$1"}
}

# As verb_dump, without rows.
verb_structure() {
  dumped "$1" --no-data
}

# Where the server is.
verb_address() {
  printf '%s:%s\n' "$MYSQL_HOST" "$MYSQL_TCP_PORT"
}
