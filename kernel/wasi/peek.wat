;; Peek: loads and stores in the program's memory, for bridge.wat, which can see only the WASI module's.
;; (One module can import two memories only where engines have multi-memory; not all have.)
(module
  (import "program" "memory" (memory 0))
  (func (export "get8") (param $at i32) (result i32) (i32.load8_u (local.get $at)))
  (func (export "put8") (param $at i32) (param $value i32) (i32.store8 (local.get $at) (local.get $value)))
  (func (export "get64") (param $at i32) (result i64) (i64.load align=1 (local.get $at)))
  (func (export "put64") (param $at i32) (param $value i64) (i64.store align=1 (local.get $at) (local.get $value)))
  (func (export "size") (result i64) (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16))))
