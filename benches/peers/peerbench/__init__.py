"""Side-by-side benchmark of backup tools on real guest disks."""
