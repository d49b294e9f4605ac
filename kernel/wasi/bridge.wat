;; The bridge: copies between the WASI module's memory and the program's, eight bytes at a time, and puts itself
;; into the gate's table. Addresses have been checked by the WASI module; a wrong one would trap here.
(module
  (type $move (func (param i32 i32 i32)))
  (import "wasi" "memory" (memory 0))
  (import "gate" "table" (table 3 3 funcref))
  (import "peek" "get8" (func $get8 (param i32) (result i32)))
  (import "peek" "put8" (func $put8 (param i32 i32)))
  (import "peek" "get64" (func $get64 (param i32) (result i64)))
  (import "peek" "put64" (func $put64 (param i32 i64)))
  (import "peek" "size" (func $size (result i64)))
  (elem (i32.const 0) $in $out $size)

  ;; program → WASI
  (func $in (type $move) (param $to i32) (param $from i32) (param $left i32)
    (block $words_done
      (loop $words
        (br_if $words_done (i32.lt_u (local.get $left) (i32.const 8)))
        (i64.store align=1 (local.get $to) (call $get64 (local.get $from)))
        (local.set $to (i32.add (local.get $to) (i32.const 8)))
        (local.set $from (i32.add (local.get $from) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 8)))
        (br $words)))
    (block $done
      (loop $bytes
        (br_if $done (i32.eqz (local.get $left)))
        (i32.store8 (local.get $to) (call $get8 (local.get $from)))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $bytes))))

  ;; WASI → program
  (func $out (type $move) (param $to i32) (param $from i32) (param $left i32)
    (block $words_done
      (loop $words
        (br_if $words_done (i32.lt_u (local.get $left) (i32.const 8)))
        (call $put64 (local.get $to) (i64.load align=1 (local.get $from)))
        (local.set $to (i32.add (local.get $to) (i32.const 8)))
        (local.set $from (i32.add (local.get $from) (i32.const 8)))
        (local.set $left (i32.sub (local.get $left) (i32.const 8)))
        (br $words)))
    (block $done
      (loop $bytes
        (br_if $done (i32.eqz (local.get $left)))
        (call $put8 (local.get $to) (i32.load8_u (local.get $from)))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $bytes)))))
