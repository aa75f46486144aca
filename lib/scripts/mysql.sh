# Verbs of MySQL and MariaDB, by the clients of either.
# tools: sh mariadb mariadb-dump mysql mysqldump
# shellcheck shell=sh
#
# MYSQL_HOST, MYSQL_USER   the server and the account
# MYSQL_TCP_PORT, MYSQL_PWD, MYSQL_UNIX_PORT   its port, the password and (for localhost) the socket: the clients read them themselves
#
# Of the tools one pair is enough: MySQL's images have mysql and mysqldump, MariaDB's have had only the other two since 11.0.

client=mysql
dump=mysqldump
if command -v mariadb > /dev/null; then client=mariadb; fi
if command -v mariadb-dump > /dev/null; then dump=mariadb-dump; fi

# Without the image's option files, so that two images of one version do the same.
connected() {
  program=$1
  shift
  exec "$program" --no-defaults --host="$MYSQL_HOST" --user="$MYSQL_USER" \
    --default-character-set=utf8mb4 --max-allowed-packet=1G "$@"
}

# Version of the dump program.
verb_version() {
  "$dump" --version
}

# Statements on standard input; rows on standard output, one a line, fields parted by tabs, both escaped in names and values.
verb_query() {
  connected "$client" --batch --skip-column-names --connect-timeout=10
}

# The database "$1", with further options. Without CREATE DATABASE: where it goes is for the restore to say.
dumped() {
  database=$1
  shift
  set -- --single-transaction --quick --routines --events --triggers --no-tablespaces --hex-blob "$@"
  case $("$dump" --version) in
    *MariaDB*) ;;
    # The first would make a restore refuse or not replicate; the second asks for a table that other servers do not have.
    *) set -- "$@" --set-gtid-purged=OFF --column-statistics=0 ;;
  esac
  connected "$dump" "$@" -- "$database"
}

# One database.
verb_dump() {
  dumped "$1"
}
