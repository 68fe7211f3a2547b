# shellcheck shell=bash disable=SC2034 # the scripts use what is set here
# What the scripts here share: arguments, reading a setting, changing it and remembering what it was.
#
# Memory: $state/values, a line per changed file: its path from the root, a tab, the content it had. A file that is there
# already is not written again, so that applying twice keeps the first values. `undo` reads it.

root=/
state=/var/lib/breakwater-tuning
dry_run=no
failed=0
me=${0##*/}

die() {
    echo "$me: $*" >&2
    exit 2
}

say_failed() {
    echo "$me: $*" >&2
    failed=1
}

# argument OPTION VALUE...: sets `given` to the value. Not to be called in $(...): `die` would end the subshell only, and a --root
# without its value would be the real host. An empty value would be it, too; an option's name is a value that was left out.
argument() {
    case ${2:-} in
        '' | --*) die "$1 needs a value (try --help)" ;;
    esac
    given=$2
}

# The comment at the top of the script is its help.
help() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 0
}

# content PATH: what a file holds, of "always [madvise] never" the chosen word.
content() {
    local text
    text=$(cat "${root%/}$1" 2> /dev/null) || return 1
    if [[ $text =~ \[([^]]+)\] ]]; then
        text=${BASH_REMATCH[1]}
    fi
    printf '%s' "$text"
}

# quoted TEXT: as a shell word.
quoted() {
    if [[ $1 =~ ^[A-Za-z0-9_./,:+-]+$ ]]; then
        printf '%s' "$1"
    else
        printf "'%s'" "${1//\'/\'\\\'\'}"
    fi
}

# change PATH VALUE: prints the line that does it, remembers the content there was, and does it.
change() {
    local path=$1 value=$2 file old
    file=${root%/}$path
    old=$(content "$path")
    printf 'echo %s > %s\n' "$(quoted "$value")" "$(quoted "$file")"
    [ "$dry_run" = no ] || return 0
    remember "$path" "$old" || return 0
    if ! { printf '%s\n' "$value" > "$file"; } 2> /dev/null; then
        say_failed "$file could not be written: run as root, on the host rather than in a container"
    fi
}

# remember PATH CONTENT: before the change, so that no change is ever without its old value.
remember() {
    if ! mkdir -p "$state" 2> /dev/null || ! touch "$state/values" 2> /dev/null; then
        say_failed "$state/values cannot be written, so nothing was changed: give another place with --state DIR"
        return 1
    fi
    if ! cut -f1 "$state/values" | grep -qxF -- "$1"; then
        printf '%s\t%s\n' "$1" "$2" >> "$state/values"
    fi
}
