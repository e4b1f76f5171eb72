"""What every other package uses: errors, checks, files, devices, processes, old names."""
