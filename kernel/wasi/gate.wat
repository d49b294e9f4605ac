;; The gate: the way from the WASI module to the memory of a program that does not exist yet.
;;
;; The WASI module is linked before the program (which imports it), so it calls these three functions; they go
;; through a table that bridge.wat fills once the program is there. Until then a call traps.
(module
  (type $move (func (param i32 i32 i32)))
  (type $size (func (result i64)))
  (table (export "table") 3 3 funcref)
  (func (export "in") (param $to i32) (param $from i32) (param $size i32)
    (call_indirect (type $move) (local.get $to) (local.get $from) (local.get $size) (i32.const 0)))
  (func (export "out") (param $to i32) (param $from i32) (param $size i32)
    (call_indirect (type $move) (local.get $to) (local.get $from) (local.get $size) (i32.const 1)))
  (func (export "size") (result i64)
    (call_indirect (type $size) (i32.const 2))))
