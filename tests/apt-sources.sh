# For the scripts beside it: Debian's archive as this machine's own apt sources name it. POSIX sh.

# The apt sources entry (FILE:NUMBER) that has the component main of Debian's suite $1; what follows is
# for apt-get. apt knows it from its lists: there is none before the first `apt-get update`.
sources_entry() {
    wanted_suite=$1
    shift
    apt-get "$@" indextargets --format '$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(SOURCESENTRY)' \
        'Created-By: Packages' | awk -F '|' -v suite="$wanted_suite" \
        '$1 ~ /^Debian( Backports)?$/ && $2 == suite && $3 == "main" { print $4; exit }'
}

# The entry FILE:NUMBER with its suites replaced by $2. Taken over whole, it keeps Signed-By (a path or
# a key in place), Trusted, mirrors and architectures. Both of apt's formats count entries from one: a
# line in one, a paragraph in the other.
entry_for_suite() {
    file=${1%:*}
    case $file in
    *.sources) awk -v number="${1##*:}" -v suite="$2" '
        /^[ \t]*$/ { inside = 0; next }
        /^#/ { next }
        !inside { inside = 1; paragraph++; skip = 0 }
        paragraph != number { next }
        /^[^ \t]/ { skip = 0 }
        /^[Ss]uites:/ { print "Suites: " suite; skip = 1 }
        /^[Cc]omponents:/ { print "Components: main"; skip = 1 }
        !skip' "$file" ;;
    *) awk -v number="${1##*:}" -v suite="$2" '
        NR != number { next }
        { options = match($0, /\[[^]]*\]/) ? substr($0, RSTART, RLENGTH) " " : "" }
        { sub(/\[[^]]*\]/, ""); print "deb " options $2, suite, "main" }' "$file" ;;
    esac
}
