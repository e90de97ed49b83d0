#!/bin/sh
# Set-up for a bare Debian, Ubuntu or Raspberry Pi OS machine; called by the Makefile.
#
#   setup.sh venv DIR     a virtual environment in DIR with the project (editable) and what its tests need
#   setup.sh mosquitto    the mosquitto broker's program (its service is left alone)
#   setup.sh homeassistant DIR  a virtual environment in DIR with the Home Assistant that discovery is tested against
#   setup.sh homeassistant-new DIR  the same with the newest Home Assistant that a Python on this machine can run
#   setup.sh ffmpeg       the ffmpeg program: the benchmark compares with it, nothing else needs it
#
# Packages are installed only as root or where sudo asks for no password; otherwise one line says what to install.
set -eu

fail() {
    echo "setup: $*" >&2
    exit 1
}

# Run as root, or fail without asking for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# Install one Debian package; package lists are fetched only if it does not work without.
install_package() {
    command -v apt-get >/dev/null 2>&1 && as_root true || return 1
    echo "setup: installing the package $1" >&2
    apt_install "$1" 2>/dev/null || { as_root apt-get -qq update && apt_install "$1"; } >&2
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$1" >/dev/null
}

# The oldest Python that we support is 3.11; a plain python3 first, because it is the one with distribution packages.
find_python() {
    for name in python3 python3.13 python3.12 python3.11 python3.14; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

make_venv() {
    venv=$1
    python=$(find_python) || {
        install_package python3 || true
        python=$(find_python) || fail "needs Python 3.11 or newer (Debian 12, Ubuntu 24.04 and later have it): apt install python3 python3-venv"
    }
    # Debian ships venv without ensurepip; the package has the interpreter's version in its name.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        install_package "$package" || install_package python3-venv || fail "needs the package $package: apt install $package"
        "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python still cannot make virtual environments after installing $package"
    fi
    # An interpreter that is gone (an upgrade, a moved folder) leaves a venv that cannot start.
    if [ -e "$venv" ] && ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        echo "setup: $venv does not work any more, making it anew" >&2
        rm -rf "$venv"
    fi
    [ -e "$venv" ] || "$python" -m venv "$venv"
    echo "setup: installing anr-watch and its tools into $venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]' ||
        fail "pip could not install the packages (is there a network?)"
    "$venv/bin/anr-watch" --version >/dev/null || fail "anr-watch was installed but does not start"
}

# Debian starts a broker on port 1883 when its package is installed. Nobody asked for one, so it is kept from starting
# now and at the next boot; a broker that is already installed is neither needed nor touched.
get_mosquitto() {
    PATH="$PATH:/usr/sbin:/sbin"
    ! command -v mosquitto >/dev/null 2>&1 || return 0
    policy=/usr/sbin/policy-rc.d
    if command -v apt-get >/dev/null 2>&1 && [ ! -e "$policy" ] &&
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"; then
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
    fi
    install_package mosquitto || fail "needs the mosquitto broker's program: apt install mosquitto"
    if command -v systemctl >/dev/null 2>&1; then
        as_root systemctl --quiet disable mosquitto.service 2>/dev/null || true # no systemd running: nothing to disable
    fi
}

# Home Assistant 2024.3.3 runs on Python 3.11 (and on 3.12, for which several of its pinned packages have no wheels).
make_homeassistant() {
    venv=$1
    for python in python3.11 python3; do
        ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || break
        python=
    done
    [ -n "$python" ] || fail "the tests with Home Assistant 2024.3.3 need Python 3.11: there is no python3.11 here"
    "$venv/bin/python" -c 'import homeassistant' 2>/dev/null || { rm -rf "$venv" && "$python" -m venv "$venv"; } ||
        fail "$python cannot make virtual environments: apt install python3.11-venv"
    echo "setup: installing Home Assistant into $venv (some minutes)" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/homeassistant/requirements.txt ||
        fail "pip could not install Home Assistant (is there a network?)"
}

# The newest Python from 3.12 on (Home Assistant 2025.1; 3.13 runs later ones), also one that pyenv keeps.
find_new_python() {
    for minor in 14 13 12; do
        for python in "python3.$minor" "${PYENV_ROOT:-${HOME:-/}/.pyenv}"/versions/3."$minor".*/bin/"python3.$minor"; do
            if "$python" -c "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null; then
                echo "$python"
                return 0
            fi
        done
    done
    return 1
}

# Nothing is pinned here: what people get who install it today. Its MQTT integration names its own packages.
make_homeassistant_new() {
    venv=$1
    python=$(find_new_python) || fail "no Python 3.12 or newer here: the newest Home Assistant cannot be tested"
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "$python cannot make virtual environments"
    echo "setup: installing the newest Home Assistant that $python can run into $venv (some minutes)" >&2
    { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check homeassistant &&
        "$venv/bin/python" -c 'import importlib.util, json, pathlib
root = pathlib.Path(importlib.util.find_spec("homeassistant").origin).parent
for one in json.loads((root / "components/mqtt/manifest.json").read_text())["requirements"]: print(one)' \
            >"$venv/mqtt.txt" &&
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$venv/mqtt.txt"; } ||
        { rm -rf "$venv" && fail "pip could not install the newest Home Assistant (is there a network?)"; }
}

get_ffmpeg() {
    command -v ffmpeg >/dev/null 2>&1 || install_package ffmpeg || fail "the benchmark compares with ffmpeg: apt install ffmpeg"
}

case "${1:-}" in
venv) make_venv "${2:?setup.sh venv DIR}" ;;
mosquitto) get_mosquitto ;;
homeassistant) make_homeassistant "${2:?setup.sh homeassistant DIR}" ;;
homeassistant-new) make_homeassistant_new "${2:?setup.sh homeassistant-new DIR}" ;;
ffmpeg) get_ffmpeg ;;
*) fail "usage: setup.sh venv DIR | mosquitto | homeassistant DIR | homeassistant-new DIR | ffmpeg" ;;
esac
