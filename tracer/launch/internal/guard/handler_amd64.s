#include "textflag.h"

// handler writes the number of its signal, one byte, to the pipe. It runs on
// the alternate stack of whichever thread, and touches nothing of Go's.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0
	PUSHQ	DI
	MOVL	·pipeWrite(SB), DI
	MOVQ	SP, SI
	MOVL	$1, DX
	MOVL	$1, AX // write
	SYSCALL
	POPQ	DI
	RET

// restorer is where handler returns to.
TEXT ·restorer(SB), NOSPLIT|NOFRAME, $0
	MOVL	$15, AX // rt_sigreturn
	SYSCALL
	INT	$3

// func handlerPC() (handler, restorer uintptr)
TEXT ·handlerPC(SB), NOSPLIT, $0-16
	LEAQ	·handler(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	·restorer(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET
