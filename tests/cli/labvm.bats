#!/usr/bin/env bats
# labvm.bats: the lab machine for real: commands inside it, both paging modes, every way it can end.

bats_require_minimum_version 1.5.0
load common

setup_file() { prepare_labvm; }

# nb_with NAME=VALUE ARGS...: nb in that environment
nb_with() {
    local set=$1
    shift
    run --separate-stderr env "$set" "$nestbed" "$@"
    err=$stderr
}

# qemu_of PID: the QEMU that it started, once there is one
qemu_of() {
    local pid
    for _ in $(seq 50); do
        pid=$(pgrep -P "$1" -f qemu-system) && echo "$pid" && return
        sleep 0.1
    done
    return 1
}

# gone PID: it has ended, or is waiting for someone else to reap it
gone() {
    for _ in $(seq 30); do
        [ -e "/proc/$1" ] && ! grep -q '^State:.*zombie' "/proc/$1/status" || return 0
        sleep 0.1
    done
    return 1
}

# ---- what needs no machine ----
@test "labvm: no action, an unknown one, a bad option" {
    nb labvm
    fail_line 64 "prepare, run or shell"
    nb labvm frobnicate
    fail_line 64 "frobnicate"
    nb labvm run
    fail_line 64 "command is missing"
    nb labvm run -- list cpus +
    fail_line 64 "command is missing"
    nb labvm run --paging native -- list cpus
    fail_line 64 "ept and shadow"
    nb labvm run --mem 1M -- list cpus
    fail_line 64 "256M"
    nb labvm run --nodes 9 -- list cpus
    fail_line 64 "1 to 8"
    nb labvm run --timeout soon -- list cpus
    fail_line 64 "seconds"
    nb labvm shell now
    fail_line 64 "no argument"
}

@test "labvm run --plan: missing, empty, lines and words without end" {
    nb labvm run --plan no-such-file
    fail_line 66 "no-such-file"
    echo '# nothing' > empty
    nb labvm run --plan empty
    fail_line 65 "no command"
    printf 'list %05000d\n' 0 > long
    nb labvm run --plan long
    fail_line 65 "long:1"
    yes w | head -300 | tr '\n' ' ' > many
    nb labvm run --plan many
    fail_line 65 "many:1"
    nb labvm run --plan empty -- list cpus
    fail_line 64 "either"
    nb labvm run --plan .
    fail_line 66 "folder"
}

@test "labvm run: a typing error is said before anything boots" {
    nb_with PATH=/nonexistent labvm run -- list cpus + rnu
    fail_line 64 "did you mean 'run'"
    printf 'list cpus\neptt: list cpus\n' > plan
    nb_with PATH=/nonexistent labvm run --plan plan
    fail_line 65 "plan:2: 'eptt:'"
    printf 'shadow: lsit cpus\n' > plan
    nb_with PATH=/nonexistent labvm run --plan plan
    fail_line 65 "plan:1: unknown command 'lsit': did you mean 'list'"
}

@test "labvm: without QEMU, the line that installs it" {
    nb_with PATH=/nonexistent labvm run -- list cpus
    fail_line 69 "apt-get install -y --no-install-recommends qemu-system-x86"
    nb_with PATH=/nonexistent run --engine labvm --workload touch
    fail_line 69 "apt-get install"
}

@test "labvm: without a network and a kernel, what to do" {
    needs_labvm
    mkdir cache
    export http_proxy=http://127.0.0.1:9
    nb_with "NESTBED_CACHE=$PWD/cache" labvm run -- list cpus
    [ "$status" -eq 69 ]
    [[ "$err" == *apt-get* ]]
    [ "$(ls cache)" = lock ]
}

@test "run --engine labvm: what it cannot do" {
    nb run --engine labvm --workload touch --mem 64G
    fail_line 64 "at most 16G"
    nb run --engine labvm --workload touch --paging ept --reload-kvm
    fail_line 64 "reload"
}

# ---- the fetch, with a stand-in for the network ----
# stand_in: apt-cache and apt-get in bin/, first in PATH; apt-get gives kernel.deb
stand_in() {
    mkdir -p bin cache
    printf '#!/bin/sh\necho "  Depends: linux-image-1-cloud-amd64"\n' > bin/apt-cache
    printf '#!/bin/sh\ncp "%s/kernel.deb" linux-image-1.deb\n' "$PWD" > bin/apt-get
    chmod 755 bin/*
    export PATH=$PWD/bin:$PATH
}

# Make kernel.deb of the kernel in the cache.
make_deb() {
    local from
    from=$("$nestbed" labvm prepare | sed -n 's/^kernel *//p')
    mkdir -p deb/DEBIAN deb/boot deb/lib/modules
    printf 'Package: k\nVersion: 1\nArchitecture: amd64\nMaintainer: n <n@example.org>\nDescription: k\n' > deb/DEBIAN/control
    cp "$from/vmlinuz" deb/boot/vmlinuz-1
    cp "$from"/*.ko deb/lib/modules
    dpkg-deb -Znone -b deb kernel.deb > /dev/null
}

@test "labvm: a signal during the fetch ends its tools, and leaves the lock alone" {
    needs_labvm
    stand_in
    printf '#!/bin/sh\ntouch part\nsleep 300 &\necho $! > %s/child\nsleep 300\n' "$PWD" > bin/apt-get
    mkdir -p cache/fetch-stale/tree
    for signal in INT TERM; do
        rm -f child
        status=0
        # a shell's background jobs ignore SIGINT; timeout's do not
        NESTBED_CACHE=$PWD/cache timeout --preserve-status -s $signal 1 "$nestbed" labvm prepare || status=$?
        [ "$status" -gt 128 ]
        gone "$(cat child)"
        [ "$(ls cache)" = lock ]
    done
}

@test "labvm: a damaged kernel is said to be so, and replaced" {
    needs_labvm
    command -v dpkg-deb || skip "no dpkg-deb"
    make_deb
    stand_in
    export NESTBED_CACHE=$PWD/cache
    nb labvm prepare
    [ "$status" -eq 0 ]
    [ "$(find cache | sort | head -n 3 | tr '\n' ' ')" = "cache cache/linux-image-1-cloud-amd64 cache/linux-image-1-cloud-amd64/irqbypass.ko " ]
    mv kernel.deb away.deb
    for file in vmlinuz kvm.ko; do
        truncate -s -5000 cache/*/$file
        nb labvm prepare
        [ "$status" -eq 69 ]
        [[ "$err" == *"in the cache is damaged"*"apt-get download"*"cannot stat"* ]]
        cp away.deb kernel.deb
        nb labvm prepare
        [ "$status" -eq 0 ]
        cmp cache/*/kvm.ko deb/lib/modules/kvm.ko
        cmp cache/*/vmlinuz deb/boot/vmlinuz-1
        rm kernel.deb
    done
    : > "$(echo cache/*/vmlinuz)"
    nb labvm run -- list cpus
    [ "$status" -eq 69 ]
}

# ---- the machine ----
@test "labvm run: one boot, both modes, output, stderr and status of each command" {
    needs_labvm
    cat > plan <<- 'PLAN'
	# three commands, three modes
	list workloads --names
	shadow: run --engine kvm --workload touch --set pages=64 --mem 64M --json
	ept: run --engine kvm --workload touch --set pages=64 --mem 64M --json
	run --workload nosuch
	list cpus --names
	PLAN
    nb labvm run --no-icount --plan plan
    [ "$status" -eq 64 ]
    [[ "$err" == *"unknown workload 'nosuch'"* ]]
    [ "$(head -n 1 <<< "$output")" = "$("$nestbed" list workloads --names | head -n 1)" ]
    [ "$(tail -n 1 <<< "$output")" = "$("$nestbed" list cpus --names | tail -n 1)" ]
    [ "$(grep -o '"backend": ".*"' <<< "$output" | tr '\n' ' ')" = '"backend": "svm-shadow" "backend": "svm-npt" ' ]
}

@test "labvm run: kernel programs of the fuzzer in both modes, with four and five levels" {
    needs_labvm
    cat > plan <<- 'PLAN'
	ept: fuzz --engine kvm --seed 3 --programs 8 --json
	shadow: fuzz --engine kvm --seed 3 --programs 8 --json
	PLAN
    nb labvm run --plan plan
    [ "$status" -eq 0 ]
    [ "$(jq -c '[.engine, .programs, .runs, .failure]' <<< "$output" | uniq -c | tr -s ' ')" = ' 2 ["kvm",8,8,null]' ]
    [ "$("$nestbed" fuzz --kind kernel --seed 3 --programs 8 --json | jq .failure)" = null ]
}

@test "run --engine labvm: the hash of the model, instructions, twice the same" {
    needs_labvm
    local words=(run --engine labvm --paging shadow --workload touch --set pages=512 --mem 64M
        --set run.hash=1 --json)
    nb "${words[@]}"
    [ "$status" -eq 0 ]
    jq -e '.engine == "labvm" and .paging == "shadow" and .backend == "svm-shadow"
        and .virtual_time and (.emulates_ring0 | not) and .outcome.status == "ok"
        and .counters.guest_faults == 512 and .kvm.pf_taken > 512 and .kvm.pf_guest >= 512
        and (.memory_hash | length) == 16
        and (.phases | length) == 3 and (.phases | all(.ns == null and .instructions > 0))' <<< "$output"
    [ "$(jq -r .memory_hash <<< "$output")" = "$("$nestbed" run "${words[@]:3}" | jq -r .memory_hash)" ]
    jq 'del(.wall_seconds)' <<< "$output" > first
    nb "${words[@]}"
    jq 'del(.wall_seconds)' <<< "$output" | diff first -
}

@test "run --engine labvm: huge pages of the machine's host" {
    needs_labvm
    nb run --engine labvm --workload touch --set pages=512 --mem 64M --host-page 2m --json
    [ "$status" -eq 0 ]
    jq -e '.kvm.pages_4k == 0 and .kvm.pages_2m > 0' <<< "$output"
}

@test "labvm run: --timeout ends it, and the reason says so" {
    needs_labvm
    nb labvm run --timeout 0.5 -- list cpus
    fail_line 124 "0.5 s"
    nb run --engine labvm --timeout 0.5 --workload touch --json
    [ "$status" -eq 124 ]
    jq -e '.outcome.status == "timeout" and .counters.exits == null and .kvm == null' <<< "$output"
    nb run --engine labvm --timeout 0.5 --workload touch
    [ "$status" -eq 124 ]
    [[ "$output" != *"ARG backend"* ]]
}

@test "labvm run: QEMU killed, terminated, its parent killed: one reason, no process left" {
    needs_labvm
    local pid qemu
    "$nestbed" labvm run -- list cpus 2> err &
    pid=$!
    qemu=$(qemu_of $pid)
    kill -KILL "$qemu"
    status=0
    wait $pid || status=$?
    [ "$status" -eq 1 ]
    grep -q 'ended in job 1 of 1 (QEMU: signal 9)' err
    for signal in TERM KILL; do
        "$nestbed" labvm run -- list cpus &
        pid=$!
        qemu=$(qemu_of $pid)
        kill -$signal $pid
        wait $pid || true
        gone "$qemu"
    done
}

@test "labvm run -v: the kernel says on stderr what it does" {
    needs_labvm
    nb labvm run --no-icount -v -- list engines --names
    [ "$status" -eq 0 ]
    [[ "$output" == *labvm* ]]
    [[ "$err" == *"Linux version"* ]]
}

@test "labvm shell: commands through a pipe, each byte of them, then its exit status" {
    needs_labvm
    command -v busybox || skip "no busybox: apt-get install busybox-static"
    run --separate-stderr timeout 50 "$nestbed" labvm shell --paging shadow <<- 'SHELL'
	sed s/^/npt=/ /sys/module/kvm_amd/parameters/npt; nestbed list cpus --names
	(exit 3)
	SHELL
    [ "$status" -eq 3 ]
    [ "${lines[0]}" = npt=N ]
    diff <(tail -n +2 <<< "$output") <("$nestbed" list cpus --names)
    run --separate-stderr timeout 50 "$nestbed" labvm shell < /dev/null
    [ "$status" -eq 0 ]
}
