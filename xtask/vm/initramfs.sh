#!/bin/bash
# initramfs.sh KERNEL OUT PAYLOAD: packs a guest's whole file system into OUT.
#
# In it: busybox, this machine's sh, ip, tc, nft and bpftool with their libraries, the kernel modules that the tests need
# with what those depend on, the programs of the folder PAYLOAD in /payload, and init.
set -eu
kernel=$1 out=$2 payload=$3
here=$(dirname "$(readlink -f "$0")")
PATH=$PATH:/usr/sbin:/sbin

modules=(veth cls_bpf sch_ingress nf_conntrack nf_nat nf_tables nft_chain_nat nft_masq nft_ct nft_counter)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,tmp,run,etc,modules}

with_libraries() { # with_libraries PROGRAM TO: copies it, and its shared libraries to where they are here
    cp -L "$1" "$work/$2"
    { ldd "$1" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$work$(dirname "$library")"
        cp -nL "$library" "$work$library"
    done
}
with_libraries "$(command -v busybox)" bin/busybox
# Not busybox's shell: Debian's takes its own ip and tc even where PATH says otherwise.
with_libraries "$(command -v sh)" bin/sh
for program in ip tc nft bpftool; do with_libraries "$(command -v "$program")" "sbin/$program"; done
for names in protocols services; do [ ! -e "/etc/$names" ] || cp -L "/etc/$names" "$work/etc/"; done

tree=$(echo "$kernel"/lib/modules/*/ "$kernel"/usr/lib/modules/*/ | tr ' ' '\n' | while read -r d; do [ ! -d "$d/kernel" ] || echo "$d"; done | head -1)
declare -A added
add() { # add NAME: the module and, before it, what it depends on; in loading order
    local name=${1//-/_} file dependency
    [ -z "${added[$name]:-}" ] || return 0
    added[$name]=1
    file=$(find "$tree/kernel" -name "${name//_/[-_]}.ko*" | head -1)
    if [ -z "$file" ]; then
        echo "note: $name is built into this kernel or not of it" >&2
        return 0
    fi
    case $file in
        *.xz) xz -dc "$file" ;;
        *.zst) zstd -qdc "$file" ;;
        *) cat "$file" ;;
    esac > "$work/modules/$name.ko"
    for dependency in $(tr '\0' '\n' < "$work/modules/$name.ko" | grep -a '^depends=' | head -1 | cut -d= -f2 | tr , ' '); do
        add "$dependency"
    done
    echo "$name.ko" >> "$work/modules/order"
}
for module in "${modules[@]}"; do add "$module"; done

mkdir "$work/payload"
for program in "$payload"/*; do with_libraries "$program" "payload/${program##*/}"; done
install -m 755 "$here/init" "$work/init"
(cd "$work" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 > "$out"
