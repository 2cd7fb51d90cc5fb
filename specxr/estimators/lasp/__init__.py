"""LASP: the fit of an empirical emulator, broadened, shifted and multiplied by a shape polynomial."""
