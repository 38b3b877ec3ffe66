"""What a researcher of the method need not see. Core never imports it; commands find it by name."""
