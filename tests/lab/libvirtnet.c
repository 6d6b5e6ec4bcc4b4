/*
 * For the Lab only: lets libvirt assign a VF with <interface type='hostdev'> whose
 * physical function has no network interface in the kernel.
 *
 * libvirt sets MAC address and VLAN of the VF over netlink before it starts the
 * guest, and restores them afterwards (virHostdevSetNetConfig() and its siblings).
 * These are the three functions of its virnetdev.c that do so, with their work left
 * out; libvirt's own tests replace functions in the same way. They win over the
 * library's, being preloaded, in libvirtd; no other program has callers of them.
 *
 * The constructor tells fakevfio.c, which is linked into the same library, where the
 * host's devices are: libvirt starts QEMU and hooks with an environment of its own.
 */

#include <stdlib.h>

int virNetDevSaveNetConfig(void);
int virNetDevSetNetConfig(void);
int virNetDevReadNetConfig(const char *linkdev, int vf, const char *state_dir,
                           void **admin_mac, void **vlan, void **mac);

int virNetDevSaveNetConfig(void)
{
    return 0;
}

int virNetDevSetNetConfig(void)
{
    return 0;
}

int virNetDevReadNetConfig(const char *linkdev, int vf, const char *state_dir,
                           void **admin_mac, void **vlan, void **mac)
{
    (void)linkdev;
    (void)vf;
    (void)state_dir;
    *admin_mac = *vlan = *mac = NULL; /* nothing was saved */
    return 0;
}

__attribute__((constructor)) static void find_devices(void)
{
    setenv("FAKEVFIO_DIR", "/run/fakevfio", 0);
}
