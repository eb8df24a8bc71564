"""Prompts of the demo model's domain, for the scripts that fit and measure step caches; their index is the seed."""

PROMPTS = [
    "the sun rising over green hills", "a sunset over orange hills, day turns into night",
    "snow falling at night over white hills", "a boat sailing left on the sea", "a red circle on a white background",
    "a blue star on a black background", "a green heart on a yellow background", "a boat sailing right on the sea",
    "rain falling over green hills", "night over blue hills", "a yellow square on a blue background",
    "the sun rising over the sea",
]
