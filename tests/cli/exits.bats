#!/usr/bin/env bats
# exits.bats: what one event costs, presets from measurements, our KVM layer beside a bare loop.

bats_require_minimum_version 1.5.0
load common

need_kvm() {
    { [ -r /dev/kvm ] && [ -w /dev/kvm ]; } || skip "there is no /dev/kvm that we may open"
}

# Everything needed is there and cached: never downloads.
need_labvm() {
    timeout 45 "$nestbed" labvm prepare > /dev/null 2> why || skip "$(head -n 1 why)"
}

# As a user who may not open /dev/kvm.
as_nobody() {
    [ "$(id -u)" -eq 0 ] || skip "needs root, to be somebody else"
    command -v setpriv > /dev/null || skip "setpriv is not installed"
    setpriv --reuid=65534 --regid=65534 --clear-groups test ! -w /dev/kvm || skip "anybody may open /dev/kvm"
    cp "$nestbed" ./nestbed && chmod 755 . nestbed
    run --separate-stderr setpriv --reuid=65534 --regid=65534 --clear-groups ./nestbed "$@"
    err=$stderr
}

# ---- exits ----
@test "exits: wrong options" {
    nb exits --engine model
    fail_line 64 "kvm or labvm"
    nb exits --probe pio4
    fail_line 64 "did you mean 'pio"
    nb exits --batches 0
    fail_line 64 "--batches"
    nb exits --events 1000000
    fail_line 64 "--events"
    nb exits something
    [ "$status" -eq 64 ]
}

@test "exits --list names every probe that --probe takes" {
    nb exits --list
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -ge 16 ]
    grep -q '^pio3 ' <<< "$output"
    nb exits --help
    [[ "$output" == *"Example: nestbed exits"* ]]
}

@test "exits: no KVM that we may open, or no QEMU, is one line and status 69" {
    run --separate-stderr env PATH=/nonexistent "$nestbed" exits --engine labvm
    err=$stderr
    fail_line 69 "qemu-system-x86"
    as_nobody exits --probe touch
    fail_line 69 "/dev/kvm"
}

@test "exits: touch of N pages fixes N faults, and again after the host took them" {
    need_kvm
    for probe in touch retouch; do
        nb exits --probe $probe --batches 4 --events 128 --json
        [ "$status" -eq 0 ]
        jq -e '.machines[0].probes[0] | .kvm.pf_fixed == null or .kvm.pf_fixed == 4 * 128' <<< "$output"
        jq -e '.machines[0].probes[0].cost | .lo <= .median and .median <= .hi and .n == 4' <<< "$output"
        jq -e '.seconds > 0' <<< "$output"
    done
}

@test "exits: all probes, as JSON, table and fields" {
    need_kvm
    nb exits --batches 2 --events 8 --json
    [ "$status" -eq 0 ]
    jq -e '.schema == "nestbed-exits/1" and .engine == "kvm" and .seconds == null' <<< "$output"
    jq -e '[.machines[0].probes[] | .reason == null and .cost.median != null] | all' <<< "$output"
    jq -e '.machines[0] | .unit == "ns" and (.backend | test("^(vmx-ept|vmx-shadow|svm-npt|svm-shadow|pvm)$"))' <<< "$output"
    jq -e '[.machines[0].probes[] | select(.name | test("^(pio0|pio3|mmio3)$")) | .user_exits == .events * .batches] | all' \
        <<< "$output"
    nb exits --batches 2 --events 8 -x ';'
    [ "$status" -eq 0 ]
    [ "$(awk -F ';' '{print NF}' <<< "$output" | sort -u | wc -l)" -eq 1 ]
    [ "${#lines[@]}" -eq "$(("$("$nestbed" exits --list | wc -l)" + 1))" ]
    nb exits --batches 2 --events 8
    [ "$status" -eq 0 ]
    grep -q 'first touch of a page' <<< "$output"
    ! grep -q ': pvm,' <<< "$output" || grep -q 'ring 0 in its instruction emulator' <<< "$output"
}

@test "exits: a probe that takes too long is named, and fails" {
    need_kvm
    nb exits --probe mmio3 --events 4096 --batches 200 --timeout 1 # 800,000 exits
    [ "$status" -eq 1 ]
    grep -q 'mmio3 did not run: the guest had not ended after 1 second' <<< "$output"
    nb exits --probe mmio3 --events 4096 --batches 200 --timeout 1 --json
    jq -e '.machines[0].probes[0] | .cost == null and .user_exits == null' <<< "$output"
}

@test "exits --engine labvm: both modes, instructions, and what only shadow paging pays for" {
    need_labvm
    nb exits --engine labvm --probe touch --batches 3 --json
    jq -e '[.machines[].probes[0] | .kvm.pf_fixed == .events * .batches] == [true, true]' <<< "$output"
    nb exits --engine labvm --probe pte-upper --batches 2 --events 8 --json
    [ "$status" -eq 0 ]
    jq -e '[.machines[].name] == ["labvm npt=1", "labvm npt=0"]' <<< "$output"
    jq -e '[.machines[].unit] == ["instructions", "instructions"]' <<< "$output"
    jq -e '[.machines[].backend] == ["svm-npt", "svm-shadow"]' <<< "$output"
    jq -e '[.machines[].probes[0].kvm.mmu_pte_write] == [0, 16]' <<< "$output"
    jq -e '[.machines[].probes[0].cost.median] | .[0] < 10 and .[1] > 1000' <<< "$output"
}

# ---- calibrate ----
@test "calibrate: wrong options" {
    nb calibrate -o preset
    fail_line 64 ".ini"
    nb calibrate -o "it's.ini"
    fail_line 64 "letters"
    nb calibrate --base nothing --events none
    fail_line 64 "unknown CPU preset"
    nb calibrate --rounds 1
    fail_line 64 "--rounds"
    nb calibrate --events some
    fail_line 64 "kvm, labvm or none"
    nb calibrate -x ,
    fail_line 64 "-x"
    nb calibrate --help
    [[ "$output" == *"Example: nestbed calibrate"* ]]
}

@test "calibrate: a preset that --cpu takes, each number below its source, the evidence beside it" {
    nb calibrate --events none --rounds 3 --pages 4096 -o host.ini --quiet
    ! command -v gnuplot > /dev/null || ! fc-match 'DejaVu Sans' > /dev/null || [ -s host.svg ]
    [ "$status" -eq 0 ]
    nb run --cpu ./host.ini "${SHORT[@]:1}" --json
    [ "$status" -eq 0 ]
    [ "$(jq -r .cpu.name <<< "$output")" = host ]
    jq -e '.schema == "nestbed-calibration/1" and (.curves_ns_per_hop.sparse | length > 20)' host.json
    jq -e 'all(.curves_ns_per_hop.sparse[]; .median > 0) and .events == null' host.json
    # the columns of the figure are made with it
    [ ! -e host.svg ] || [ "$(grep -c '^' host.tsv)" -gt 20 ]
    grep -q '^; Events were not measured: --events none' host.ini
    # a section's first key, and each key of [cost], stands below a source
    awk '/^;/ {source = source $0; next}
        /^\[/ {section = $0; source = ""; next}
        /^(entries|pcid|vpid|kind|size|[a-z0-9_]+) =/ && (section == "[cost]" || $1 == "entries" || $1 == "size") {
            if (source !~ /measured|read|assumption/) {print section, $0; bad = 1}
            source = ""}
        END {exit bad}' host.ini
    # for what was found, and only for that, the preset says measured
    [ "$(jq '.levels.tlb_l1_4k != null' host.json)" = \
        "$(sed -n '/^\[l1-4k\]\|^\[l1-any\]/,/^entries/p' host.ini | grep -q measured && echo true || echo false)" ]
}

@test "calibrate: events of this host's KVM" {
    need_kvm
    nb calibrate --rounds 3 --pages 1024 --base skx --json
    [ "$status" -eq 0 ]
    jq -e '.events[0].probes | length >= 16' <<< "$output"
    jq -e '.base == "skx" and .cycle_ns.median > 0.1 and .cycle_ns.median < 2' <<< "$output"
}

@test "calibrate: without KVM the costs of events are assumptions, and say why" {
    as_nobody calibrate --rounds 3 --pages 1024
    [ "$status" -eq 0 ]
    grep -q '^; Events were not measured: .*/dev/kvm' <<< "$output"
    awk '/^;/ {source = source $0; next}
        $1 == "exit" {found = source ~ /assumption: as in .*\/dev\/kvm/}
        {source = ""}
        END {exit !found}' <<< "$output"
}

# ---- bench vmm ----
@test "bench vmm: exits and starts on both sides" {
    need_kvm
    for loop in bare ours; do
        nb bench vmm --what pio --loop $loop --count 500 --json
        [ "$status" -eq 0 ]
        jq -e --arg l $loop '.loop == $l and .seconds > 0 and .steps == null' <<< "$output"
        nb bench vmm --what start --loop $loop --count 2 --json
        jq -e '.steps.vm > 0 and .steps.irqchip == null and .steps.run > 0 and .seconds <= .median_seconds' <<< "$output"
        nb bench vmm --what irqchip --loop $loop --count 2
        [ "$status" -eq 0 ]
        grep -q irqchip <<< "$output"
    done
    nb bench vmm --what stop
    [ "$status" -eq 64 ]
    nb bench vmm --loop theirs
    [ "$status" -eq 64 ]
}

@test "bench vmm: no KVM that we may open is one line, and a skip" {
    as_nobody bench vmm --json
    fail_line 77 "/dev/kvm"
}

@test "bench --filter vmm: ratios and a control" {
    need_kvm
    nb bench --filter '^vmm/(what:pio|aa)' --quick --repetitions 3 --no-plots --quiet --harness builtin
    [ "$status" -eq 0 ]
    grep -q 'port write from ring 0 and back .*goal 1.15' <<< "$output"
    grep -q 'bare against bare' <<< "$output"
}
