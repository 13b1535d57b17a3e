package filter

import _ "embed" // the program

//go:embed filter_amd64.bin
var raw string
