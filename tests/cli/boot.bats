#!/usr/bin/env bats
# boot.bats: test images on KVM: text, exit status, CPUs, devices, crashes, time, wrong files.

bats_require_minimum_version 1.5.0
load common

guests() {
    guest=$(dirname "$nestbed")/guests
    [ -f "$guest/info.flat" ] || skip "no test images beside $nestbed: make builds them"
}

with_kvm() {
    guests
    if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
        skip "/dev/kvm is missing or not ours to open"
    fi
}

@test "the guest's text is standard output, its exit code the status" {
    with_kvm
    nb boot "$guest/info.flat" --not-an-option 7
    [ "$status" -eq 7 ]
    [ -z "$err" ]
    [[ "$output" == *"cmdline $guest/info.flat --not-an-option 7"* ]]
    [[ "$output" == *"cpus 00000001"* ]]
    for code in 0 1; do
        nb boot "$guest/info.flat" "$code"
        [ "$status" -eq "$code" ]
    done
}

@test "memory, CPUs and environment are as asked for" {
    with_kvm
    printf 'FIRST=1\nSECOND=two' > lines
    nb boot --mem 64M --smp 3 --initrd lines --env THIRD=3 "$guest/info.flat" 0
    [ "$status" -eq 0 ]
    [[ "$output" == *"mem_upper 0000fc00"* ]]
    [[ "$output" == *"cpus 00000003"* ]]
    [[ "$output" == *$'environment FIRST=1\nSECOND=two\nTHIRD=3\n'* ]]
}

@test "memory above 3 GiB is a second region from 4 GiB on" {
    with_kvm
    nb boot --mem 4G "$guest/info.flat" 0
    [ "$status" -eq 0 ]
    [[ "$output" == *"mem_upper 002ffc00"* ]]
    [[ "$output" == *"regions 00000030"* ]]
}

@test "every device answers" {
    with_kvm
    nb boot --timeout 20 "$guest/devices.flat"
    echo "$output $err"
    [ "$status" -eq 0 ]
    [ "$output" = "devices ok" ]
}

@test "64-bit images: exceptions, the local APIC's timer, x2APIC" {
    with_kvm
    nb boot --timeout 20 "$guest/long.flat"
    echo "$err"
    [ "$status" -eq 0 ]
}

@test "real-mode images: the interrupt table and controllers a PC's firmware leaves" {
    with_kvm
    nb boot --json --timeout 20 "$guest/real.flat"
    [ "$status" -eq 0 ]
    jq -e '.end == "exited" and .code == 0 and (.kvm == null or .kvm.irq_injections == 2)' <<< "$output"
}

@test "other CPUs start at INIT and SIPI" {
    with_kvm
    nb boot --smp 4 --timeout 20 "$guest/smp.flat"
    [ "$status" -eq 0 ]
    [ "$output" = "others 00000003" ]
}

@test "a crash is one line with RIP and bytes, status 1" {
    with_kvm
    nb boot "$guest/crash.flat"
    [ "$status" -eq 1 ]
    [ "$output" = "about to crash" ]
    [ "$(wc -l <<< "$err")" -eq 1 ]
    [[ "$err" == *"triple fault"* ]]
    [[ "$err" == *"bytes 0f 0b"* || "$err" == *"does not keep RIP"* ]]
}

@test "a guest that never ends: status 124, what it said is kept" {
    with_kvm
    nb boot --timeout 0.2 --smp 2 "$guest/spin.flat"
    [ "$status" -eq 124 ]
    [ "$output" = spinning ]
    [[ "$err" == *"0.2 seconds"* ]]
}

@test "the record tells the same" {
    with_kvm
    nb boot --json --smp 2 "$guest/smp.flat" word
    [ "$status" -eq 0 ]
    jq -e '.schema == "nestbed-boot/1" and .end == "exited" and .code == 0 and .smp == 2 and
        .arguments == ["word"] and .console == "others 00000001\n" and .user_exits.io > 10 and
        (.kvm == null or .kvm.exits > 0) and .wall_seconds > 0' <<< "$output"
    run --separate-stderr "$nestbed" boot --json "$guest/crash.flat"
    [ "$status" -eq 1 ]
    jq -e '.end == "crashed" and .code == null and (.detail | contains("triple fault"))' <<< "$output"
}

@test "under kvm_pvm io_exits is null, not 0" {
    with_kvm
    [ -d /sys/module/kvm_pvm ] || skip "this KVM is not kvm_pvm"
    nb boot --json "$guest/info.flat" 0
    jq -e '.backend == "pvm" and .kvm.io_exits == null and .kvm.exits > 0' <<< "$output"
}

@test "a guest's text cannot steer a terminal, and comes through unchanged elsewhere" {
    with_kvm
    command -v script > /dev/null || skip "script is missing"
    local word=$'\e[2J\xff'
    nb boot "$guest/info.flat" "$word" 0
    [[ "$output" == *"$word 0"* ]]
    # script(1) runs $SHELL, else /bin/sh, which need not know $'...'
    SHELL=$BASH script -qec "'$nestbed' boot '$guest/info.flat' \$'\\e[2J\\xff' 0" seen < /dev/null > /dev/null
    grep -qF '?[2J? 0' seen
    run grep -q $'\e' seen
    [ "$status" -eq 1 ]
    nb boot --json "$guest/info.flat" $'\e[2J' 0
    jq -e '.console | contains("?[2J 0")' <<< "$output"
}

@test "a call of the host that fails is named: 69" {
    with_kvm
    run --separate-stderr bash -c 'ulimit -n 20; exec "$@"' _ "$nestbed" boot --smp 64 "$guest/info.flat" 0
    err=$stderr
    fail_line 69 "KVM_CREATE_VCPU: Too many open files"
}

# Calls that something does without: a terminal's, statistics, what a KVM may lack.
@test "whichever call of KVM fails, it is named: 69, one line" {
    with_kvm
    command -v strace > /dev/null || skip "strace is missing"
    strace -o log true || skip "no right to trace"
    local n named=0
    for n in $(seq 2 24); do
        run --separate-stderr strace -o log -e inject=ioctl:error=ENOMEM:when="$n" \
            "$nestbed" boot "$guest/info.flat" 0
        echo "call $n: $status $stderr; $(grep INJECTED log)"
        if [ "$status" -eq 0 ]; then
            grep INJECTED log | grep -qE 'TCGETS|KVM_CHECK_EXTENSION|KVM_GET_STATS_FD|KVM_IRQ_LINE'
        else
            [ "$status" -eq 69 ]
            [[ "$stderr" =~ KVM_[A-Z0-9_]+.*": Cannot allocate memory" ]]
            grep INJECTED log | grep -q "${BASH_REMATCH[0]%%[ :]*}"
            [ "$(wc -l <<< "$stderr")" -eq 1 ]
            named=$((named + 1))
        fi
    done
    [ "$named" -ge 15 ]
}

@test "a record's words are UTF-8, or nothing runs" {
    guests
    nb boot --json "$guest/info.flat" $'\xff' 0
    fail_line 64 "UTF-8"
}

@test "files that are no such image: 65, missing ones: 66" {
    guests
    nb boot no-such-file
    fail_line 66 "No such file"
    echo text > text
    nb boot text
    fail_line 65 "not an ELF file"
    : > empty
    nb boot empty
    fail_line 65 "not an ELF file"
    head -c 100 "$guest/info.flat" > short
    nb boot short
    [ "$status" -eq 65 ]
    nb boot "$nestbed"
    fail_line 65 "ELF32"
    nb boot .
    fail_line 66 "not a regular file"
    nb boot /dev/zero
    fail_line 66 "not a regular file"
}

@test "wrong options are refused in one line" {
    guests
    nb boot
    fail_line 64 "which image"
    nb boot --smp 0 "$guest/info.flat"
    fail_line 64 "--smp"
    nb boot --smp 65 "$guest/info.flat"
    fail_line 64 "--smp"
    nb boot --mem 100 "$guest/info.flat"
    fail_line 64 "--mem"
    nb boot --timeout never "$guest/info.flat"
    fail_line 64 "--timeout"
    nb boot --env NOVALUE "$guest/info.flat"
    fail_line 64 "KEY=VALUE"
    nb boot --initrd none "$guest/info.flat"
    fail_line 66 "--initrd none"
}

@test "an image larger than the guest is refused" {
    with_kvm
    nb boot --mem 1M "$guest/info.flat"
    fail_line 64 "--mem"
}

@test "without /dev/kvm: 69 and what to do" {
    guests
    if [ ! -e /dev/kvm ]; then
        nb boot "$guest/info.flat"
    else # in a world of its own, where /dev is empty
        unshare --mount true 2> /dev/null || skip "there is a /dev/kvm, and no right to hide it"
        run --separate-stderr unshare --mount sh -c 'mount -t tmpfs none /dev && exec "$@"' _ \
            "$nestbed" boot "$guest/info.flat"
        err=$stderr
    fi
    fail_line 69 "open /dev/kvm: No such file"
}
