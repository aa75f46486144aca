// Made by age-keygen 1.1.1, for the tests alone.
export const ANNE = {
  recipient: "age16lu7952su5hpy6fx6av8lflkyqc0cvs9r29t8xcq25sg48mtzuns9el2t5",
  identity: "AGE-SECRET-KEY-1KWRAVD7EYGPC3EWZKX8N58UJG85ZN2K25Z90Z3JYLNJ2KQK6HUWS9R2453",
};
export const BERT = {
  recipient: "age1yhjytmp99cg9cn4t45jqlkx0g8m5dt3rucwxuv63lrmnlkszkpxsrhxkfj",
  identity: "AGE-SECRET-KEY-1T0ZPN9MYVCL5SUHJ667Y5MPDA0CUWVUWNEMNDHYJSGJ3TKLLZDZQVWQS3X",
};
