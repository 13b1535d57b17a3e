package guard

const sysSeccomp = 317
