#!/usr/bin/env bats
# reload.bats: --reload-kvm for real, in a machine of its own: QEMU boots the lab machine's kernel with
# kvm_amd, a shell script there switches its mode in every way that can end well or badly, and boots
# the test images in both modes. And which KVM this is, for hosts that are not this one.

bats_require_minimum_version 1.5.0
load common

# What is missing, or nothing. The kernel is what `nestbed labvm prepare` keeps.
missing() {
    local tool
    for tool in qemu-system-x86_64 busybox cpio gzip; do
        command -v "$tool" > /dev/null || { echo "$tool is missing" && return; }
    done
    busybox --list 2> /dev/null | grep -qx insmod || { echo "busybox has no insmod" && return; }
    [ -f "$1/guests/long.flat" ] || { echo "no test images beside the program" && return; }
    [ -x "$1/nestbed-static" ] || { echo "no nestbed-static beside the program" && return; }
    timeout 45 "$1/nestbed-static" labvm prepare > /dev/null 2>&1 || echo "no kernel for a labvm"
}

# The script of the machine. Each step prints lines that begin with its name.
write_init() {
    cat << 'EOF'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc p /proc && mount -t sysfs s /sys && mount -t devtmpfs d /dev
for m in irqbypass ccp kvm kvm-amd; do [ ! -f /mod/$m.ko ] || insmod /mod/$m.ko; done
run="nestbed run --engine kvm --mem 32M --timeout 20"
short="$run --workload touch --set pages=50 --set rounds=1 --json"
endless="$run --workload gups --set size=1M --set updates=1000000000000 --json"
npt() { cat /sys/module/kvm_amd/parameters/npt 2> /dev/null || echo gone; }
turns() { # turns VALUE: npt() becomes that within 20 s
    for _ in $(seq 200); do [ "$(npt)" = "$1" ] && return; sleep 0.1; done
}
say() { echo "$step: $*"; }
tell() { while read -r line; do say "$line"; done; }

step=run
$short --paging shadow --reload-kvm > /tmp/record 2> /tmp/err
say "status $?, $(grep -o '"backend": *"[^"]*"' /tmp/record), after it $(npt)"

step=again
$short --paging ept --reload-kvm > /tmp/record 2> /tmp/err
say "status $?, $(grep -o '"backend": *"[^"]*"' /tmp/record), after it $(npt)"

step=killed
$endless --paging shadow --reload-kvm > /dev/null 2>&1 &
turns N; sleep 1; say "before $(npt)"; kill -9 $!; wait $!
turns Y; say "after $(npt)"

step=alone
$endless --paging shadow --reload-kvm --timeout 3 > /dev/null 2> /tmp/err &
turns N; sleep 1
for d in /proc/[0-9]*; do
    grep -q "^PPid:.$!\$" $d/status 2> /dev/null && say "guardian found" && kill -9 ${d#/proc/}
done
wait $!; say "status $?, after it $(npt)"

step=busy
$endless --timeout 3 > /dev/null 2>&1 & other=$!
sleep 1
$short --paging shadow --reload-kvm > /dev/null 2> /tmp/err; say "status $?, mode $(npt)"
tell < /tmp/err; wait $other

step=two
$endless --paging shadow --reload-kvm --timeout 4 > /dev/null 2>&1 & other=$!
turns N
$short --paging ept --reload-kvm > /dev/null 2> /tmp/err; say "status $?, mode $(npt)"
tell < /tmp/err; wait $other; say "after both $(npt)"

step=without
mv /sbin/modprobe /tmp
$short --paging shadow --reload-kvm > /dev/null 2> /tmp/err; say "status $?, mode $(npt)"
tell < /tmp/err; mv /tmp/modprobe /sbin

step=broken
touch /tmp/broken
$short --paging shadow --reload-kvm > /dev/null 2> /tmp/err; say "status $?, mode $(npt)"
# The guardian has the last word, when the run has ended.
for _ in $(seq 100); do grep -q "could not load" /tmp/err && break; sleep 0.1; done
tell < /tmp/err

rm /tmp/broken
for mode in 1 0; do
    step=boot$mode
    /sbin/modprobe kvm_amd npt=$mode
    for image in devices long real smp crash; do
        nestbed boot --smp 2 --timeout 10 /guests/$image.flat > /tmp/out 2> /tmp/err
        say "$image $? $(tail -n 1 /tmp/out) $(cat /tmp/err)"
    done
    rmmod kvm_amd
done
poweroff -f
EOF
}

# modprobe for a folder of modules: its second argument is the parameter
write_modprobe() {
    cat << 'EOF'
#!/bin/sh
[ ! -e /tmp/broken ] || exit 1
exec insmod /mod/kvm-amd.ko "$2"
EOF
}

setup_file() {
    local build cache kernel root=$BATS_FILE_TMPDIR/root
    build=$(dirname "${NESTBED:-$BATS_TEST_DIRNAME/../../build/nestbed}")
    reload_reason=$(missing "$build")
    export reload_reason
    [ -z "$reload_reason" ] || return 0
    cache=${NESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nestbed}
    kernel=$(find "$cache" -maxdepth 1 -name 'linux-image-*' | sort | tail -1)
    mkdir -p "$root"/{bin,sbin,proc,sys,dev,tmp,mod,guests}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$build/nestbed-static" "$root/bin/nestbed"
    cp "$kernel"/*.ko "$root/mod"
    cp "$build"/guests/*.flat "$root/guests"
    write_init > "$root/init"
    write_modprobe > "$root/sbin/modprobe"
    chmod +x "$root/init" "$root/sbin/modprobe"
    (cd "$root" && find . | cpio -o -H newc 2> /dev/null | gzip -1) > "$BATS_FILE_TMPDIR/initrd"
    timeout 55 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 1G -display none -vga none \
        -net none -serial stdio -no-reboot -kernel "$kernel/vmlinuz" -initrd "$BATS_FILE_TMPDIR/initrd" \
        -append "console=ttyS0 quiet panic=1 mitigations=off nopti tsc=reliable" \
        < /dev/null 2>&1 | tr -d '\r' > "$BATS_FILE_TMPDIR/log"
}

# said STEP TEXT: this step printed a line that contains this
said() {
    [ -z "$reload_reason" ] || skip "$reload_reason"
    grep "^$1: " "$BATS_FILE_TMPDIR/log" | grep -qF -- "$2" && return
    echo "expected of $1: $2; the machine said:"
    tail -40 "$BATS_FILE_TMPDIR/log"
    return 1
}

@test "reload: the run is in the mode asked for, the host's is back after it" {
    said run 'status 0, "backend": "svm-shadow", after it Y'
    said again 'status 0, "backend": "svm-npt", after it Y'
}

@test "reload: killed in the middle, the mode comes back" {
    said killed "before N"
    said killed "after Y"
}

@test "reload: without its guardian, the mode comes back, and the status is the run's" {
    said alone "guardian found"
    said alone "status 124, after it Y"
}

@test "reload: refused while a VM runs" {
    said busy "status 69, mode Y"
    said busy "has a VM open"
}

@test "reload: refused while another run has changed the mode" {
    said two "status 69, mode N"
    said two "another run has changed the mode"
    said two "after both Y"
}

@test "reload: refused where nothing can load a module again" {
    said without "status 69, mode Y"
    said without "no /sbin/modprobe"
}

@test "reload: what could not be put back is said, with the command" {
    said broken "status 69, mode gone"
    said broken "modprobe kvm_amd npt=1"
}

@test "boot: the test images on a real KVM, nested paging and shadow" {
    for mode in 1 0; do
        said boot$mode "devices 0 devices ok"
        said boot$mode "long 0"
        said boot$mode "real 0"
        said boot$mode "smp 0 others 00000001"
        said boot$mode "crash 1 about to crash"
        said boot$mode "triple fault"
    done
}

# kvm_here MODULE INITSTATE PARAMETER VALUE...: what a record says where sysfs shows these modules
kvm_here() {
    # shellcheck disable=SC2016  # of the inner shell
    unshare --mount sh -c '
        mount -t tmpfs none /sys/module && program=$1 image=$2 && shift 2
        while [ $# -gt 0 ]; do
            mkdir -p "/sys/module/$1/parameters"
            [ "$2" = builtin ] || echo "$2" > "/sys/module/$1/initstate"
            [ "$3" = none ] || echo "$4" > "/sys/module/$1/parameters/$3"
            shift 4
        done
        exec "$program" boot --json "$image" 0' _ "$nestbed" "$(dirname "$nestbed")/guests/info.flat" \
        "$@" | jq -r '"\(.backend) \(.paging) \(.emulates_ring0)"'
}

@test "which KVM it is: as sysfs shows, on every kind of host" {
    { [ -r /dev/kvm ] && [ -w /dev/kvm ]; } || skip "there is no /dev/kvm that we may open"
    unshare --mount true 2> /dev/null || skip "no right to show another /sys/module"
    [ "$(kvm_here kvm_intel live ept Y)" = "vmx-ept ept false" ]
    [ "$(kvm_here kvm_intel live ept N)" = "vmx-shadow shadow false" ]
    [ "$(kvm_here kvm_amd live npt 1)" = "svm-npt ept false" ]
    [ "$(kvm_here kvm_amd live npt 0)" = "svm-shadow shadow false" ]
    [ "$(kvm_here kvm_pvm live none none)" = "pvm shadow true" ]
    [ "$(kvm_here kvm_intel coming ept Y kvm_pvm live none none)" = "pvm shadow true" ]
    [ "$(kvm_here kvm_amd live none none)" = "unknown unknown false" ]
    [ "$(kvm_here)" = "unknown unknown false" ]
    # built in, but for another maker's processor
    grep -qwE 'vmx|svm' /proc/cpuinfo && skip "both built in: this processor has one of them"
    [ "$(kvm_here kvm_intel builtin ept Y kvm_amd builtin npt Y)" = "unknown unknown false" ]
}
