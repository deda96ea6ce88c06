"""The same work by metashot and by what users would otherwise run, pair by pair, on the same machine in the same run."""
