"""Files in and out: atomic writes, locks, images, contact sheets, HTML reports, progress."""
