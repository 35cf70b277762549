# Sourced by the run scripts; POSIX sh. Needs $root, the top of the source tree. Speaks on standard error only.

# install_packages GROUP...: installs those packages of cmake/packages.txt in the groups that are missing, with sudo where
# the user is not root. Returns non-zero, after one sentence saying why, if they cannot be installed. On a system without
# apt it installs nothing and leaves it to CMake to name what it lacks.
install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "This system has no apt-get: install the counterparts of the packages in cmake/packages.txt yourself." >&2
    return 0
  fi
  packages_missing=$(missing_packages "$@")
  [ -n "$packages_missing" ] || return 0
  packages_sudo=
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "These packages are missing, and installing them takes root or sudo: $packages_missing" >&2
      return 1
    fi
    packages_sudo=sudo
  fi
  echo "Installing $packages_missing" >&2
  packages_log=$(mktemp) || return 1
  packages_status=0
  # One unreachable source fails the update, though the others may do.
  apt_get update >"$packages_log" 2>&1 || true
  # shellcheck disable=SC2086  # a list of words
  apt_get install --yes --no-install-recommends $packages_missing >>"$packages_log" 2>&1 || packages_status=1
  if [ "$packages_status" -ne 0 ]; then
    tail -n 15 "$packages_log" >&2
    echo "The packages could not be installed, as apt-get says above; without a network, install them beforehand:" \
      "$packages_missing" >&2
  fi
  rm -f "$packages_log"
  return "$packages_status"
}

# Those of the groups' packages that dpkg does not know as installed, on one line.
missing_packages() {
  missing=
  while read -r group package _; do
    case " $* " in *" $group "*) ;; *) continue ;; esac
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing="$missing $package"
  done <"$root/cmake/packages.txt"
  echo "${missing# }"
}

# Waits for another apt-get that holds the lock instead of failing.
apt_get() {
  $packages_sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null
}
