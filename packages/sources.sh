# For the scripts beside it: the sources that a package is made of. POSIX sh; $checkout is where they are.

# Copies to $1 what a package is built from, as it is in the checkout, without what was made there.
copy_sources() {
    mkdir -p "$1"
    (cd "$checkout" && tar -c --exclude=__pycache__ --exclude='*.so' --exclude='*.egg-info' \
        LICENSE README.md docs etc hooks packages plugin) | tar -x -C "$1"
}

# Runs packages/generator on the distribution's Python, as a build does.
generator() {
    PYTHONPATH="$checkout/plugin:$checkout/packages" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m generator "$@"
}
