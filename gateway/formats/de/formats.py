"""As in English (gateway/formats/en), in German's order."""

DATETIME_FORMAT = r"j. M Y, H:i:s \U\T\C"
DATE_FORMAT = "j. M Y"
DATE_INPUT_FORMATS = ["%Y-%m-%d", "%d.%m.%Y"]
DATETIME_INPUT_FORMATS = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M"]
TIME_INPUT_FORMATS = ["%H:%M:%S", "%H:%M"]
