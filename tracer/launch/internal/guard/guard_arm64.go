package guard

const sysSeccomp = 277
