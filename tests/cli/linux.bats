#!/usr/bin/env bats
# linux.bats: Debian's Linux as a guest in the lab machine: it boots, ends in every way, and its own
# virtio_balloon driver works with our device.

bats_require_minimum_version 1.5.0
load common

setup_file() { prepare_labvm; }

# record EXPRESSION: it holds for the record on stdout; else print that
record() {
    jq -e "$1" <<< "$output" || {
        jq 'del(.kvm, .env)' <<< "$output"
        return 1
    }
}

@test "what cannot be is refused before anything runs" {
    nb boot --linux --balloon 3
    fail_line 64 "4 KiB"
    nb boot --linux --balloon ,
    fail_line 64 "--balloon"
    nb boot --balloon 1M image
    fail_line 64 "--linux"
    nb boot --linux --mem 4G --balloon 1M
    fail_line 64 "3G"
    nb boot --linux --initrd file
    fail_line 64 "initrd of its own"
    nb boot --linux --host-page 8k
    fail_line 64 "8k"
}

@test "a file that says it is Linux and is not: 65" {
    head -c 2048 /dev/zero > image
    printf '\x55\xaaxxHdrS\x0f\x02' | dd of=image bs=1 seek=510 conv=notrunc status=none
    nb boot image
    fail_line 65 "zImage"
    printf '\x01' | dd of=image bs=1 seek=$((0x211)) conv=notrunc status=none
    nb boot image
    fail_line 65 "cut short"
}

# 1280 MiB are 327680 pages of 4 KiB; a balloon of 1152 MiB, 294912 pages, leaves 10 % of them. (Of less memory
# Linux itself needs more than 10 %: a balloon of 90 % of 1 GiB stops some pages short.)
@test "Linux's balloon: to 10 % of its memory and back, all memory verified, statistics, reports, hints" {
    needs_labvm
    nb labvm run --no-icount --timeout 300 -- boot --linux --json --mem 1280M --host-page thp \
        --timeout 250 --balloon 1152M,0
    echo "$err"
    [ "$status" -eq 0 ]
    record '.end == "exited" and .code == 0 and .balloon.broken == null'
    record '[.balloon.steps[].target] == [294912, 0]'
    # The guest, its driver and the device agree; no page of a pattern was lost.
    record '.balloon.steps | all(.guest_pages == .target and .actual == .target and .pages == .target
        and .wrong == 0)'
    # The host keeps nothing of what is in the balloon, also after the guest used all the rest.
    record '.balloon.steps | all(.resident_checked <= (327680 - .pages) * 4096)'
    # All that went in came out, and nothing was refused. Compaction moves pages of the balloon: each is inflated anew.
    record '.balloon.counters | .inflated == .deflated and .inflated >= 294912 and
        ([to_entries[] | select(.key | startswith("refused")) | .value] | add) == 0'
    record '[.balloon.refused[]] | add == 0'
    # Sorted and merged: far fewer calls than pages.
    record '.balloon.counters | .releases * 50 < .released'
    # Linux reports what is free, answers requests for statistics, hints free pages.
    record '.balloon.counters | .reported > 0 and .hinted > 0 and .release_failed == 0'
    record '.balloon.steps | any(.stats != null and .stats.total > 1200000000 and .stats.free > 0)'
    # All features but poison, which a guest that poisons nothing does not take.
    record '.balloon.features == 4294967296 + 47'
}

@test "Linux: two CPUs and poweroff: 0; a panic is a reset: 1, and the reason" {
    needs_labvm
    nb labvm run --no-icount --timeout 200 -- boot --linux --smp 2 --mem 256M --host-page thp --timeout 90 loglevel=7 + \
        boot --linux --mem 256M --host-page thp --timeout 90 rdinit=/none
    [ "$status" -eq 1 ]
    [[ "$output" == *"Brought up 1 node, 2 CPUs"* ]]
    [[ "$output" == *"nestbed guest: total"* ]]
    [[ "$output" == *"Kernel panic"* ]]
    [ "$(grep -c "^nestbed: boot" <<< "$err")" -eq 1 ]
    [[ "$err" == *"reset its machine"* ]]
}
