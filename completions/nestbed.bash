# shellcheck shell=bash
# nestbed.bash: bash completion. Every name comes from `nestbed list`, so that it cannot go stale.

_nestbed_names() { nestbed list "$1" --names 2> /dev/null; }

_nestbed_flags() {
    nestbed "$1" --help 2> /dev/null | grep -oE '^ +(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+'
}

_nestbed() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
    COMPREPLY=()
    # --flag=value arrives as three words.
    [ "$cur" = = ] && cur=
    [ "$prev" = = ] && prev=${COMP_WORDS[COMP_CWORD - 2]}
    case $prev in
    --paging) words=$(_nestbed_names paging) ;;
    --workload) words=$(_nestbed_names workloads) ;;
    --engine) words=$(_nestbed_names engines) ;;
    --cpu) words=$(_nestbed_names cpus) ;;
    --trace) words=$(_nestbed_names traces) ;;
    --guest-page | --host-page) words='4k 2m 1g thp' ;;
    --levels | --host-levels) words='4 5' ;;
    --numa) words='local interleave bind:' ;;
    --progress | --color) words='auto always never' ;;
    help) words=$(_nestbed_names commands) ;;
    list) words='paging workloads cpus counters engines traces commands' ;;
    nestbed) words="$(_nestbed_names commands) help --help --version" ;;
    *) words=$(_nestbed_flags "${COMP_WORDS[1]}") ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    case $prev in
    --trace | --cpu) mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
}
complete -F _nestbed nestbed
