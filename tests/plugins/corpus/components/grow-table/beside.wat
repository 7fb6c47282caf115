;; Gives up where it does not get five thousand elements more.
(module
  (table $table 1 funcref)
  (func $grow
    (if (i32.eq (table.grow $table (ref.null func) (i32.const 5000)) (i32.const -1))
      (then unreachable)))
  (start $grow))
