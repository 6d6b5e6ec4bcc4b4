# Over "make install": what that has put into /etc, by the digests in its manifests, and the operator
# has left as it was, makes way for the package's. The rest is treated as any configuration file is.
make_way() {
    while read -r digest path; do
        [ -f "$path" ] && [ ! -L "$path" ] || continue
        found=$(sha256sum <"$path")
        found=${found%% *}
        [ "$found" != "$digest" ] || continue
        if grep -qs "$found" /usr/lib/vfio-preflight/manifest.json /usr/lib/vfio-preflight/*/manifest.json; then
            mv -f "$path" "$path.before-package"
        fi
    done <<END
@DIGESTS@
END
}
