"""The libvirt hooks that platforms bring, written anew to do the same, without their code.

Each is a script for a host of the Lab, at the place where its platform puts it.
"""
