// Package gostd runs the Go standard library's own tests under alptrace.
//
// Each package's tests are compiled to a static binary and run twice from the
// package's folder, in a fresh network namespace with lo up: by the kernel's
// stack, and under alptrace with a stack that has nothing but its loopback.
// Every test and subtest that passes natively must pass under alptrace;
// exceptions.txt lists those that do not, with the cause. A test that fails
// under alptrace is given a second run alone, since some depend on the load of
// the machine; the table counts it as passed, and says that it took two runs.
//
//	ALPTRACE_RUNNER   a path: that alptrace; "native": compare the kernel with
//	                  itself, to find tests that do not give the same result
//	                  twice; empty: alptrace is built
//	ALPTRACE_FLAGS    flags added to alptrace
//	GOSTD_TABLE       a file to write the table to
package gostd
