"""What differs between machines and systems: cores, memory, processes, positioned reads and writes, claims of folders.

Linux, macOS and Windows offer different calls for these. The rest of the package asks here, and names no system.
"""
