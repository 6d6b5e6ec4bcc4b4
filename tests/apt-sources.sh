# For the scripts beside it: Debian's archive as this machine's own apt sources name it, and an apt that
# works on a state of its own. POSIX sh; what includes it defines say() and die().

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

# --- apt, beside the machine's own ------------------------------------------------------------------------

# A directory for packages and apt's state; it goes when we do, or when the next one comes.
make_scratch() {
    rm -rf "$components"/scratch.*
    scratch=$(mktemp -d "$components/scratch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir -p "$scratch/state/lists/partial" "$scratch/cache/archives/partial"
    # The machine's own apt hooks are for its own state. Without a status file nothing counts as installed.
    cat >"$scratch/apt.conf" <<EOF
#clear APT::Architectures;
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architectures { "$(dpkg --print-architecture)"; };
APT::Get::List-Cleanup "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Dir::State "$scratch/state";
Dir::State::status "/dev/null";
Dir::Cache "$scratch/cache";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
EOF
}

# An apt command that knows nothing but the suite of the last call of use_suite.
private() {
    command=$1
    shift
    "$command" --config-file "$scratch/apt.conf" --option "Dir::Etc::sourcelist=$sources" \
        --option Dir::Etc::sourceparts=/dev/null --option "APT::Default-Release=$release" "$@"
}

# The machine's own entry for Debian. Where nobody has updated the machine's lists yet, private ones
# tell; that another archive of the machine cannot be reached does not matter then.
find_entry() {
    entry=$(sources_entry "$VERSION_CODENAME")
    [ -z "$entry" ] || return 0
    apt-get --config-file "$scratch/apt.conf" --quiet=2 update >"$scratch/log" 2>&1 || true
    entry=$(sources_entry "$VERSION_CODENAME" --config-file "$scratch/apt.conf")
    [ -n "$entry" ] || die "no apt source of this machine has Debian's own archive of \
$VERSION_CODENAME (component main), or it cannot be reached:
$(cat "$scratch/log")"
}

# Makes suite $1 known to private(), a backports suite together with its release. 1 if it cannot be.
use_suite() {
    release=$1
    case $entry in
    *.sources:*) sources=$scratch/$1.sources ;;
    *) sources=$scratch/$1.list ;;
    esac
    entry_for_suite "$entry" "$1" >"$sources"
    case $1 in
    *-backports) { echo; entry_for_suite "$entry" "${1%-backports}"; } >>"$sources" ;;
    esac
    private apt-get --quiet=2 --option APT::Default-Release= update >"$scratch/log" 2>&1
}

why_not() {
    echo "the archive of $entry cannot be used for $1:
$(cat "$scratch/log")
(NO_PUBKEY: debian-archive-keyring of this machine is older than the suite, update it; \
404: no such suite there; otherwise see whether the network is there)"
}

candidate() {
    LC_ALL=C private apt-cache policy "$1" | sed -n 's/^ *Candidate: //p' | grep -v none || true
}
