#!/usr/bin/env bats
# kvm.bats: `nestbed run --engine kvm`: the record, agreement with the model, and what it refuses.

bats_require_minimum_version 1.5.0
load common

need_kvm() {
    { [ -r /dev/kvm ] && [ -w /dev/kvm ]; } || skip "there is no /dev/kvm that we may open"
}

KVM=(run --engine kvm --mem 64M --timeout 30)
TOUCH=(--workload touch --set pages=200 --set rounds=2)

# The mode this host's KVM is not in.
other_mode() {
    nb "${KVM[@]}" "${TOUCH[@]}" --json
    [ "$(jq -r .paging <<< "$output")" = shadow ] && echo ept || echo shadow
}

@test "kvm: the record names backend and mode; statistics per phase add up" {
    need_kvm
    nb "${KVM[@]}" "${TOUCH[@]}" --json
    [ "$status" -eq 0 ]
    jq -e '.engine == "kvm" and .outcome.status == "ok"
        and (.paging == "ept" or .paging == "shadow")
        and (.backend | test("^(vmx-ept|vmx-shadow|svm-npt|svm-shadow|pvm)$"))' <<< "$output"
    jq -e '[.phases[].name] == ["boot", "setup", "work"] and all(.phases[]; .ns > 0)' <<< "$output"
    jq -e '([.phases[].kvm.pf_fixed] | add) == .kvm.pf_fixed and .kvm.pf_fixed >= 200' <<< "$output"
    jq -e '([.phases[].counters.guest_faults] | add) == .counters.guest_faults' <<< "$output"
}

@test "kvm: what it cannot count is null, not 0" {
    need_kvm
    nb "${KVM[@]}" "${TOUCH[@]}" --json
    jq -e '.counters | .accesses == null and .walks == null and .tlb_l1_misses == null' <<< "$output"
    jq -e '.backend != "pvm" or (.kvm.io_exits == null and .counters.exits == null)' <<< "$output"
    jq -e 'if .paging == "ept" then .counters.exit_fill == null and .counters.exit_ept_violation > 0
        else .counters.exit_fill > 0 and .counters.exit_ept_violation == null end' <<< "$output"
}

@test "kvm: events and memory are the model's" {
    need_kvm
    local events='[.memory_hash, [.phases[] | [.name, (.counters |
        .guest_faults, .guest_pt_writes, .guest_cr3_loads, .guest_invlpgs, .guest_pt_bytes)]]]'
    local job=(--workload forkcow --set procs=2 --set pages=50 --set run.hash=1 --json)
    nb "${KVM[@]}" "${job[@]}"
    [ "$status" -eq 0 ]
    local real
    real=$(jq -c "$events" <<< "$output")
    nb run --engine model --cpu plain --mem 64M "${job[@]}"
    [ "$status" -eq 0 ]
    [ "$(jq -c "$events" <<< "$output")" = "$real" ]
    [[ "$real" != '[null'* ]]
}

@test "kvm: memory from a memfd, and huge pages asked for" {
    need_kvm
    nb "${KVM[@]}" "${TOUCH[@]}" --set host.backing=memfd --json
    [ "$status" -eq 0 ]
    jq -e '.counters.host_frames | . >= 200 and . < 512' <<< "$output"
    nb "${KVM[@]}" "${TOUCH[@]}" --host-page thp --json
    [ "$status" -ne 69 ] || skip "$err"
    [ "$status" -eq 0 ]
    jq -e '.counters.host_frames | . >= 512 and . % 512 == 0' <<< "$output"
}

@test "kvm: the other mode is refused, with the three ways out" {
    need_kvm
    local other
    other=$(other_mode)
    nb "${KVM[@]}" "${TOUCH[@]}" --paging "$other"
    fail_line 69 "--paging $other: this host's KVM is in mode"
    [[ "$err" == *"npt="* && "$err" == *"--reload-kvm"* && "$err" == *"--engine labvm"* ]]
}

@test "kvm: strategies, traces and options of the model alone are refused" {
    nb "${KVM[@]}" "${TOUCH[@]}" --paging native
    fail_line 64 "--paging native"
    nb "${KVM[@]}" --trace "$repo/workloads/traces/shell.nbt"
    fail_line 64 "model"
    nb "${KVM[@]}" "${TOUCH[@]}" --set run.events=events.txt
    fail_line 64 "run.events"
}

@test "kvm: a guest that does not end is ended: exit 124" {
    need_kvm
    nb "${KVM[@]}" --timeout 0.1 --workload gups --set size=32M --set updates=1000000000
    [ "$status" -eq 124 ]
    [[ "$err" == *"0.1 seconds"* ]]
}

@test "kvm: a guest without memory is an outcome" {
    need_kvm
    nb "${KVM[@]}" --workload touch --set pages=100000 --set rounds=1 --json
    [ "$status" -eq 1 ]
    [ "$(jq -r .outcome.status <<< "$output")" = guest_oom ]
    [[ "$err" == *"--mem"* ]]
}

@test "kvm: sizes no guest can have are refused" {
    need_kvm
    nb run --engine kvm --mem 300G "${TOUCH[@]}"
    fail_line 64 "256G"
    nb run --engine kvm --mem 2M "${TOUCH[@]}"
    fail_line 64 "too small"
}

@test "kvm: without permission or device: exit 69, one line" {
    command -v setpriv > /dev/null || skip "setpriv is missing"
    [ "$(id -u)" -eq 0 ] || skip "only root can become a user without rights"
    run setpriv --reuid 65534 --clear-groups test -r /dev/kvm -a -w /dev/kvm
    [ "$status" -ne 0 ] || skip "every user may open /dev/kvm here"
    setpriv --reuid 65534 --clear-groups test -x "$nestbed" || skip "the program is in a private folder"
    run --separate-stderr setpriv --reuid 65534 --clear-groups "$nestbed" "${KVM[@]}" "${TOUCH[@]}"
    err=$stderr
    fail_line 69 "/dev/kvm"
}

@test "kvm: two runs count alike" {
    need_kvm
    local counts='[.kvm.pf_taken, .kvm.pf_fixed, .kvm.pf_guest, .kvm.mmu_cache_miss,
        (.counters | .guest_faults, .guest_pt_writes, .host_frames)]'
    nb "${KVM[@]}" "${TOUCH[@]}" --json
    local first
    first=$(jq -c "$counts" <<< "$output")
    nb "${KVM[@]}" "${TOUCH[@]}" --json
    [ "$(jq -c "$counts" <<< "$output")" = "$first" ]
}

# Ring 0 may be emulated instruction by instruction, by an emulator that lacks some of them, and
# saves no vector registers.
@test "image: no instruction that a guest kernel must avoid" {
    local image
    image=$(dirname "$nestbed")/image/image.elf
    command -v objdump > /dev/null || skip "objdump is missing"
    [ -r "$image" ] || skip "the image is not beside the program"
    objdump -d -j .kernel_text "$image" > kernel.txt
    grep -q '<gk_fault>:' kernel.txt
    run grep -wE 'int3|int|stac|clac|xgetbv|xsetbv|clwb|invpcid|rdpru|movbe|sysret|vmcall|vmmcall' kernel.txt
    [ "$status" -eq 1 ]
    objdump -d -j .kernel_text -j .user_text "$image" > all.txt
    grep -q '<user_entry>:' all.txt
    run grep -E '%[xyz]mm|%st|%mm[0-7]' all.txt
    [ "$status" -eq 1 ]
}

@test "kvm: what only the model has is refused" {
    local flag
    for flag in "--cpu skx" "--host-levels 5" "--host-mem 1G"; do
        # Two words.
        # shellcheck disable=SC2086
        nb "${KVM[@]}" "${TOUCH[@]}" $flag
        fail_line 64 "${flag%% *}"
    done
    nb "${KVM[@]}" "${TOUCH[@]}" --set run.events=-
    fail_line 64 "run.events"
    nb run --engine model --timeout 5 "${TOUCH[@]}"
    fail_line 64 "--timeout"
}
