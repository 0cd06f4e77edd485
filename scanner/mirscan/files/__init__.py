"""What mirscan may write, replace and remove.

Three rules. A file appears whole under its final name, or not at all (`atomic`). A folder is made only where there is
none, in an empty one, or over one that carries our mark (`folders`). What is removed is removed name by name: only
names that we write (`kinds`), and a folder only once it is empty. Nothing outside this package and the score store
writes, renames or removes.

A temporary name is ``.NAME.HOST.PROCESS.TOKEN.mirscan``. The next run that writes NAME sweeps it away if that process
is gone from this host (`temporary`).
"""
