#!/bin/sh
# Installs anr-watch as a service, or takes it away again. As root, from a checkout or an unpacked release:
#
#   sh deploy/install.sh                  install or upgrade; configuration that is there stays
#   sh deploy/install.sh uninstall        stop and remove the program and the service; configuration and data stay
#   sh deploy/install.sh uninstall purge  the configuration, too; footage and databases stay
#
#   PREFIX=/opt/anr-watch CONFIG=/etc/anr-watch UNITS=/etc/systemd/system RUN_AS=heldar   may be set
set -eu

PREFIX=${PREFIX:-/opt/anr-watch}
CONFIG=${CONFIG:-/etc/anr-watch}
UNITS=${UNITS:-/etc/systemd/system}
RUN_AS=${RUN_AS:-heldar}
SOURCE=$(cd "$(dirname "$0")/.." && pwd)

say() { echo "anr-watch: $*"; }
fail() { echo "anr-watch: $*" >&2; exit 1; }

# systemctl only where systemd runs: in a container or a chroot the files are all there is to do.
service() {
    if [ -d /run/systemd/system ]; then systemctl "$@"; fi
}

case ${1:-install} in
install)
    [ -w "$(dirname "$PREFIX")" ] && [ -w "$(dirname "$CONFIG")" ] || fail "needs root: sudo sh deploy/install.sh"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "needs Python 3.11 or newer (Debian 12, Ubuntu 24.04 and later have it): apt install python3 python3-venv"
    [ -x "$PREFIX/bin/python" ] || python3 -m venv "$PREFIX" ||
        fail "cannot make a virtual environment: apt install python3-venv"
    "$PREFIX/bin/pip" install --quiet --upgrade "$SOURCE" || fail "pip could not install the packages (is there a network?)"
    mkdir -p "$CONFIG"
    if [ ! -e "$CONFIG/config.toml" ]; then
        install -m 0640 "$SOURCE/config.toml" "$CONFIG/config.toml"
        say "edit $CONFIG/config.toml: [database] path, [recordings] path"
    fi
    if id "$RUN_AS" >/dev/null 2>&1; then chgrp "$RUN_AS" "$CONFIG/config.toml"; else
        say "there is no user $RUN_AS: set User= in $UNITS/anr-watch.service to the recorder's user"; fi
    mkdir -p "$UNITS"
    if [ ! -e "$UNITS/anr-watch.service" ]; then
        sed -e "s|/opt/anr-watch|$PREFIX|; s|/etc/anr-watch|$CONFIG|; s|^User=.*|User=$RUN_AS|; s|^Group=.*|Group=$RUN_AS|" \
            "$SOURCE/deploy/anr-watch.service" >"$UNITS/anr-watch.service"
        say "set ReadWritePaths in $UNITS/anr-watch.service, then: systemctl enable --now anr-watch"
    else
        service try-restart anr-watch
    fi
    service daemon-reload
    say "installed $("$PREFIX/bin/anr-watch" --version); next: $PREFIX/bin/anr-watch --config $CONFIG/config.toml check"
    ;;
uninstall)
    [ -e "$UNITS/anr-watch.service" ] && service disable --now anr-watch || true
    rm -f "$UNITS/anr-watch.service"
    service daemon-reload
    rm -rf "$PREFIX"
    if [ "${2:-}" = purge ]; then rm -rf "$CONFIG"; say "removed, with $CONFIG; footage and databases stay"; else
        say "removed; $CONFIG, footage and databases stay"; fi
    ;;
*)
    fail "there is no $1 (right: install, uninstall, uninstall purge)"
    ;;
esac
