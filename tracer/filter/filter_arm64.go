package filter

import _ "embed" // the program

//go:embed filter_arm64.bin
var raw string
