# Verbs of a drill of MySQL and MariaDB: a server of its own, and what a restore does to it.
# tools: sh sleep id mariadb mariadb-dump mysql mysqldump mariadbd mariadb-install-db mysqld mariadb-tzinfo-to-sql mysql_tzinfo_to_sql
# shellcheck shell=sh
#
# WORK  directory for the server's data
#
# Of the tools those of one product are enough: MySQL's images have mysql, mysqldump, mysqld and mysql_tzinfo_to_sql.

# Nothing but the server in WORK can be reached: localhost is the socket.
MYSQL_HOST=localhost
MYSQL_USER=root
MYSQL_UNIX_PORT=$WORK/socket
export MYSQL_HOST MYSQL_USER MYSQL_UNIX_PORT
unset MYSQL_PWD MYSQL_TCP_PORT

# shellcheck source=lib/scripts/mysql-restore.sh
. "${ENGINE_SCRIPT%/*}/mysql-restore.sh"

server=mysqld
if command -v mariadbd > /dev/null; then server=mariadbd; fi
zones=mysql_tzinfo_to_sql
if command -v mariadb-tzinfo-to-sql > /dev/null; then zones=mariadb-tzinfo-to-sql; fi

# Starts an empty server in WORK. "$1" is the name of its directory, and settings that it must share with another server,
# as name=value, parted by spaces. It is thrown away soon, so it makes nothing durable; it runs no events, which would
# change the data, and takes no connection but from this container.
verb_start() {
  name=${1%% *}
  data=$WORK/$name
  # shellcheck disable=SC2086 # words of it are what is wanted; there is no pattern in them
  set -- ${1#"$name"}
  for setting; do
    shift
    set -- "$@" "--loose-$setting"
  done
  set -- --no-defaults --datadir="$data" "$@" --skip-log-bin --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=OFF \
    --loose-innodb-flush-method=nosync --loose-debug-no-sync --performance-schema=OFF
  case $(id -u) in 0) set -- "$@" --user=root ;; esac
  if command -v mariadb-install-db > /dev/null; then
    mariadb-install-db "$@" --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve > "$WORK/log" 2>&1
  else
    "$server" "$@" --initialize-insecure > "$WORK/log" 2>&1
  fi || fail "the scratch server cannot be made"
  "$server" "$@" --socket="$MYSQL_UNIX_PORT" --pid-file="$WORK/pid" --secure-file-priv="$WORK" --skip-networking \
    --event-scheduler=OFF --max-allowed-packet=1G --loose-mysqlx=OFF --loose-mysql-native-password=ON > "$WORK/log" 2>&1 < /dev/null &
  while ! (connected "$client" --execute='DO 0') > /dev/null 2>&1; do
    kill -0 "$!" 2> /dev/null || fail "the scratch server does not start"
    sleep 0.1 2> /dev/null || sleep 1
  done
}

# Prints the server's log, and as the last line what it complained of first.
fail() {
  reason=
  while IFS= read -r line; do
    printf '%s\n' "$line"
    case $line in *ERROR*) reason=${reason:-$line} ;; esac
  done < "$WORK/log" >&2
  echo "$1: $reason" >&2
  exit 1
}

# Makes the time zone "$1" known to the server.
verb_time_zone() {
  sql=$("$zones" "/usr/share/zoneinfo/$1" "$1")
  printf '%s\n' "$sql" | connected "$client" --database=mysql
}
