#!/bin/sh
# Packs folders of goldens, each into FOLDER.tar.xz beside it, the same bytes for the same contents.
#   pack.sh FOLDER...
set -eu
for folder in "$@"; do
  folder=${folder%/}
  tar -C "$(dirname "$folder")" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    -cf - "$(basename "$folder")" | xz -9e -T1 >"$folder.tar.xz"
done
